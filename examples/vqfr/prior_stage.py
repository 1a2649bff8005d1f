"""VQFR's first stage: an auto-encoder of clean faces, judged as a whole, whose codes k-means may find anew.

It is `codeprior.stages.VQGANStage` with another discriminator: that of StyleGAN2, in the first version of wavelets,
with R1 and without an adaptive weight.
"""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from codeprior import distributed
from codeprior.codebooks import LatentReservoir
from codeprior.images import to_unit
from codeprior.losses import codebook_loss, logistic_generator_loss
from codeprior.prior import VQGAN
from codeprior.shapes import Image
from codeprior.stages import Faces, Measured, adam, rate_at, set_rate, weighted, with_skipped
from codeprior.training import Batch, Engine, TorchEngine, WeightAverage, full, step_if_finite

from .judges import adversary
from .settings import PriorSettings


class PriorStage:
    """Trains a VQGAN to give clean faces back, against a discriminator of whole faces.

    Args:
        recipe: The settings; their discriminator is `"whole"` or `"wavelets"`.
        model: The VQGAN; its codes are a `Codebook` where the settings find them anew.
        perceptual: Distance of two signed images.
        device: Where to train; an engine's own device goes before it.
        engine: What distributes; one process without it.

    Raises:
        ValueError: The settings want a discriminator of patches, which `VQGANStage` has.

    Note:
        Until `codes_from` latents are not exchanged for codes. From there to `estimated_until`, k-means sets the codes
        to the centres of the newest 16,384 latents every `estimated_every` steps; they are shared between ranks.
    """

    measured: Measured = "degraded"

    def __init__(
        self,
        recipe: PriorSettings,
        *,
        model: VQGAN,
        perceptual: nn.Module,
        device: torch.device | str = "cpu",
        engine: Engine | None = None,
    ):
        if recipe.discriminator == "patches":
            raise ValueError(
                "PriorStage: its discriminator sees whole faces, got discriminator='patches'; use "
                "codeprior.stages.VQGANStage, or 'whole' or 'wavelets'."
            )
        self.recipe: Any = recipe
        self.engine = engine or TorchEngine(device)
        device = self.engine.device
        self.faces = Faces.of(recipe, size=recipe.network.size, device=device)
        self.perceptual: Any = perceptual.to(device)
        self.model = model.to(device)
        self.network = self.engine.wrap(self.model)
        self.optimizer = adam(self.model, recipe)
        self.adversary = adversary(recipe, self.engine, kind=recipe.discriminator)
        self.average = WeightAverage(self.model, decay=recipe.average)
        estimates = recipe.first_coded or recipe.estimated_every
        self.reservoir = LatentReservoir(self.model.codebook.dim).to(device) if estimates else None

    @property
    def saved(self) -> Mapping[str, Any]:
        """What a checkpoint holds."""
        parts = {"vqgan": self.model, "vqgan_optimizer": self.optimizer, **self.adversary.saved_alone()}
        parts |= self.average.parts
        return parts if self.reservoir is None else parts | {"reservoir": self.reservoir}

    @property
    def result(self) -> VQGAN:
        """The VQGAN that is handed on: the average of the weights where there is one."""
        return self.average.module

    @property
    def results(self) -> Mapping[str, nn.Module]:
        """What the next stage starts from."""
        return {"vqgan": self.result, "discriminator": self.adversary.discriminator}

    def update(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        """Trains on one batch."""
        recipe, rate = self.recipe, rate_at(self.recipe, step)
        self.model.train()
        set_rate(self.optimizer, rate)
        if self.estimates(step):
            self._estimate(step)
        clean = self.faces(batch).degraded
        with self.engine.autocast():
            found = self.network(clean, coded=step >= recipe.first_coded)
        image = full(found.image)
        terms = {
            "l1": (image - clean).abs().mean(),
            "perceptual": full(self.perceptual(image, clean)),
            "codebook": codebook_loss(
                full(found.latent), full(found.quantized.codes), commitment=recipe.commitment_term,
                codebook=recipe.codebook_term,
            ),
        }  # fmt: skip
        judges = step >= recipe.first_adversarial
        if judges:
            terms["adversarial"] = logistic_generator_loss(self.adversary.judged(image).scores)
        # ranks wait for a gradient of every parameter, also of codes that nothing was exchanged for
        total = weighted(terms, recipe.weights) + 0 * sum(value.sum() for value in self.model.codebook.parameters())
        self.optimizer.zero_grad(set_to_none=True)
        self.engine.backward([total])
        skipped = step_if_finite(self.optimizer, clip=recipe.clip)
        if self.reservoir is not None and step <= max(recipe.first_coded, recipe.estimated_until):
            # every rank keeps the vectors of all, because a checkpoint holds one rank's
            self.reservoir.add(torch.cat(distributed.gather(full(found.latent).detach())))
        metrics = {name: value.detach() for name, value in terms.items()} | {"total": total.detach()}
        if judges:
            metrics |= self.adversary.learn(clean, image, step, rate)
        self.average.update()
        return with_skipped(metrics, skipped)

    def estimates(self, step: int) -> bool:
        """Says whether k-means finds the codes before a step.

        Args:
            step: Number of the update.
        """
        first, recipe = self.recipe.first_coded, self.recipe
        if first and step == first:
            return True
        every = recipe.estimated_every
        return bool(every) and first < step <= recipe.estimated_until and (step - first) % every == 0

    def answer(self, image: Image) -> Image:
        """Gives what the VQGAN that is handed on makes of signed images."""
        return self.result.eval()(image).image

    @torch.no_grad()
    def preview(self, batch: Batch) -> Mapping[str, Image]:
        """Gives what it sees and what it gives back."""
        image = self.faces(batch).degraded
        return {"input": to_unit(image), "reconstruction": to_unit(self.answer(image))}

    def _estimate(self, step: int) -> None:
        assert self.reservoir is not None
        cast(Any, self.model.codebook).start(self.reservoir.held(), seed=self.recipe.seed + step)
        self.average.copy("codebook")

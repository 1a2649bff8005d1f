"""Stage 2: two encoders learn to say the same about a face and its degraded copy.

Both VQGANs go on with the whole objective of stage 1; the association loss joins them.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from codeprior import to_unit
from codeprior.losses import association_loss
from codeprior.prior import VQGAN
from codeprior.shapes import Image
from codeprior.training import Batch, Engine, TorchEngine, step_if_finite

from .codebook_stage import seen
from .data import Faces
from .objective import Objective, Pull, prefixed, rate_at, with_skipped
from .recipes import AssociationRecipe


class AssociationStage:
    """Trains the HQ and the LQ VQGAN together on pairs.

    Args:
        recipe: The configuration.
        hq: The VQGAN of stage 1a.
        lq: The VQGAN of stage 1b.
        perceptual: Distance of two signed images.
        device: Where to train; an engine's own device goes before it.
        engine: What distributes; one process without it.
    """

    def __init__(
        self,
        recipe: AssociationRecipe,
        *,
        hq: VQGAN,
        lq: VQGAN,
        perceptual: nn.Module,
        device: torch.device | str = "cpu",
        engine: Engine | None = None,
    ):
        self.recipe = recipe
        self.engine = engine or TorchEngine(device)
        device = self.engine.device
        network = recipe.network
        self.faces = Faces(
            size=network.size, degradation=recipe.degradation, degradation_size=recipe.degradation_size, device=device
        )
        self.hq, self.lq = hq.to(device), lq.to(device)
        self.hq_objective = Objective(self.hq, perceptual.to(device), recipe, engine=self.engine)
        self.lq_objective = Objective(self.lq, perceptual, recipe, engine=self.engine)

    @property
    def saved(self) -> Mapping[str, nn.Module | Optimizer]:
        """What a checkpoint holds."""
        parts = {f"hq_{name}": part for name, part in self.hq_objective.saved.items()}
        return parts | {f"lq_{name}": part for name, part in self.lq_objective.saved.items()}

    @property
    def results(self) -> Mapping[str, nn.Module]:
        """What the next stage starts from."""
        return {"hq_vqgan": self.hq, "lq_vqgan": self.lq}

    def update(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        """Trains both VQGANs on one batch of pairs."""
        for model in (self.hq, self.lq):
            model.train()
        pair = seen(self.recipe, self.faces(batch), batch.keys, step)
        for objective in (self.hq_objective, self.lq_objective):
            objective.set_rate(rate_at(self.recipe, step))
        if self.recipe.generator_pass == "sequential":
            return self._sequential(pair.clean, pair.degraded, step)
        return self._shared(pair.clean, pair.degraded, step)

    def association(self, hq: Pull, lq: Pull) -> Tensor:
        """Gives the association loss of both latents, before they are exchanged for codes."""
        return association_loss(
            hq.reconstruction.latent, lq.reconstruction.latent, scale=1 / self.recipe.temperature,
            negatives=self.recipe.negatives,
        )  # fmt: skip

    @torch.no_grad()
    def preview(self, batch: Batch) -> Mapping[str, Image]:
        """Gives both images, and what each VQGAN gives back."""
        self.hq.eval()
        self.lq.eval()
        pair = self.faces(batch)
        return {
            "clean": to_unit(pair.clean),
            "clean reconstruction": to_unit(self.hq(pair.clean).image),
            "degraded": to_unit(pair.degraded),
            "degraded reconstruction": to_unit(self.lq(pair.degraded).image),
        }

    def _shared(self, clean: Image, degraded: Image, step: int) -> Mapping[str, Tensor]:
        hq, lq = self.hq_objective.pull(clean, step), self.lq_objective.pull(degraded, step)
        association = self.association(hq, lq)
        for objective in (self.hq_objective, self.lq_objective):
            objective.generator_optimizer.zero_grad(set_to_none=True)
        # one walk: each VQGAN gets its own objective and its side of the association loss
        weighed = self.recipe.weights["association"] * association
        self.engine.backward([*hq.roots, *lq.roots, weighed], [*hq.gradients, *lq.gradients, None])
        skipped = step_if_finite(self.hq_objective.generator_optimizer, self.lq_objective.generator_optimizer)
        return self._metrics(
            hq, lq, association, skipped,
            self.hq_objective.step_discriminator(clean, hq.reconstruction.image, step),
            self.lq_objective.step_discriminator(degraded, lq.reconstruction.image, step),
        )  # fmt: skip

    def _sequential(self, clean: Image, degraded: Image, step: int) -> Mapping[str, Tensor]:
        images = {"hq": clean, "lq": degraded}
        objectives = {"hq": self.hq_objective, "lq": self.lq_objective}
        pulls, judged, association, skipped = {}, {}, clean.new_zeros(()), clean.new_zeros(())
        for side, objective in objectives.items():
            for name, other in objectives.items():
                # only this side moves now, so nothing walks back into the other
                with torch.set_grad_enabled(name == side):
                    pulls[name] = other.pull(images[name], step)
            association = self.association(pulls["hq"], pulls["lq"])
            weighed = self.recipe.weights["association"] * association
            mine = pulls[side]
            wanted = mine._replace(roots=[*mine.roots, weighed], gradients=[*mine.gradients, None])
            skipped = skipped.maximum(objective.step_generator(wanted))
            with torch.no_grad():
                fakes = {name: other.model(images[name]).image for name, other in objectives.items()}
            judged[side] = objective.step_discriminator(images[side], fakes[side], step)
        return self._metrics(pulls["hq"], pulls["lq"], association, skipped, judged["hq"], judged["lq"])

    def _metrics(
        self,
        hq: Pull,
        lq: Pull,
        association: Tensor,
        skipped: Tensor,
        hq_judged: dict[str, Tensor],
        lq_judged: dict[str, Tensor],
    ) -> Mapping[str, Tensor]:
        parts = [judged.pop("skipped") for judged in (hq_judged, lq_judged) if judged]
        metrics = prefixed("hq", hq.metrics | hq_judged) | prefixed("lq", lq.metrics | lq_judged)
        return with_skipped(metrics | {"association": association.detach()}, skipped, *parts)

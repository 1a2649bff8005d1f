"""The second stage: encoder and decoder learn to restore degraded faces by asking the dictionary, which stays."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Adam

from codeprior.discriminators import PatchGAN
from codeprior.images import to_unit
from codeprior.losses import (
    PerceptualLoss,
    adaptive_weight,
    codebook_loss,
    generator_adversarial_loss,
    hinge_discriminator_loss,
    style_loss,
)
from codeprior.prior import VQGAN, Reconstruction
from codeprior.shapes import Image
from codeprior.stages import Faces, Measured, adam, rate_at, set_rate
from codeprior.training import Batch, Engine, TorchEngine, WeightAverage, full, step_if_finite

from .model import RestoreFormer, fresh
from .settings import RestorationSettings


class RestorationStage:
    """Trains everything of a RestoreFormer but its dictionary.

    Args:
        recipe: The settings.
        dictionary: The auto-encoder of the first stage; encoder and decoder begin as it left them.
        perceptual: Distance of two signed images; its features also serve the style term.
        identity: Distance of two people, for the term `identity`; see `codeprior.losses.IdentityLoss`.
        device: Where to train; an engine's own device goes before it.
        engine: What distributes; one process without it.

    Raises:
        ValueError: The settings weigh `identity`, and there is no such network.

    Note:
        The published training has a fourth kind of term, discriminators of eyes and mouth with a style distance of
        their own (weights 1.5 and 2000). It needs landmarks beside every face and is not here.
    """

    measured: Measured = "restored"

    def __init__(
        self,
        recipe: RestorationSettings,
        *,
        dictionary: VQGAN,
        perceptual: PerceptualLoss,
        identity: nn.Module | None = None,
        device: torch.device | str = "cpu",
        engine: Engine | None = None,
    ):
        if "identity" in recipe.weights and identity is None:
            raise ValueError(
                "RestorationStage: the settings weigh identity and there is no network for it; pass identity=, or take "
                "the weight out."
            )
        self.recipe: Any = recipe
        self.engine = engine or TorchEngine(device)
        device = self.engine.device
        self.faces = Faces.of(recipe, size=recipe.network.size, device=device)
        self.perceptual = perceptual.to(device)
        self.identity = None if identity is None else identity.to(device)
        self.model = fresh(recipe.network, dictionary)
        self.network = self.engine.wrap(self.model)
        self.discriminator = PatchGAN(
            recipe.discriminator_channels, recipe.discriminator_layers, norm=recipe.discriminator_norm
        )
        self.judge = self.engine.wrap(self.discriminator)
        asking = [value for name, value in self._trained() if is_attention(name)]
        others = [value for name, value in self._trained() if not is_attention(name)]
        self.optimizer = Adam([{"params": others}, {"params": asking}], lr=recipe.learning_rate, betas=recipe.betas)
        self.discriminator_optimizer = adam(self.discriminator, recipe)
        self.average = None if recipe.average is None else WeightAverage(self.model, decay=recipe.average)

    @property
    def saved(self) -> Mapping[str, Any]:
        """What a checkpoint holds."""
        parts = {
            "model": self.model, "discriminator": self.discriminator, "optimizer": self.optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
        }  # fmt: skip
        return parts if self.average is None else parts | {"average": self.average}

    @property
    def result(self) -> RestoreFormer:
        """The model that is handed on: the average of the weights where there is one."""
        return self.model if self.average is None else cast(RestoreFormer, self.average.module)

    @property
    def results(self) -> Mapping[str, nn.Module]:
        """What restores faces."""
        return {"restorer": self.result}

    def answer(self, degraded: Image) -> Image:
        """Gives what the model that is handed on makes of degraded faces `b 3 H W`, signed."""
        return self.result.eval().restore(degraded)

    def update(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        """Trains on one batch."""
        self.model.train()
        rate = rate_at(self.recipe, step)
        for optimizer in (self.optimizer, self.discriminator_optimizer):
            optimizer.zero_grad(set_to_none=True)
            set_rate(optimizer, rate)
        self.optimizer.param_groups[1]["lr"] = rate * self.recipe.attention_rate
        pair = self.faces(batch)
        with self.engine.autocast():
            found = self.network(pair.degraded)
        image = full(found.image)
        terms = self.terms(found._replace(image=image), pair.clean, step)
        total = torch.stack([self.recipe.weights[name] * value for name, value in terms.items()]).sum()
        judging = step >= self.recipe.first_adversarial
        if judging:
            wanted = torch.stack([self.recipe.weights[name] * terms[name] for name in terms if name != "codebook"])
            fooling, counted = self._fooling(image, wanted.sum())
            total = total + counted * fooling
            terms |= {"adversarial": fooling, "adaptive_weight": counted}
        self.engine.backward([total])
        skipped = step_if_finite(self.optimizer, clip=self.recipe.clip)
        terms["total"] = total
        if judging:
            loss = hinge_discriminator_loss(self.judge(pair.clean), self.judge(image.detach()))
            self.engine.backward([loss])
            terms["discriminator"] = loss
            skipped = torch.maximum(skipped, step_if_finite(self.discriminator_optimizer))
        if self.average is not None:
            self.average.update()
        return {name: value.detach() for name, value in terms.items()} | {"skipped": skipped}

    def terms(self, found: Reconstruction, clean: Image, step: int) -> dict[str, Tensor]:
        """Gives the terms of a step by name, without the adversarial one.

        Args:
            found: Of the degraded faces.
            clean: The same faces, signed.
            step: Number of the update; the identity term begins with the discriminator.
        """
        mine, theirs = self.perceptual.features(found.image), self.perceptual.features(clean)
        terms = {
            "l1": (found.image - clean).abs().mean(),
            "perceptual": self.perceptual.compare(mine, theirs).mean(),
            "codebook": codebook_loss(found.latent, found.quantized.codes),
        }
        if "style" in self.recipe.weights:
            terms["style"] = style_loss(mine, theirs, distance="squared")
        known = "identity" in self.recipe.weights and step >= self.recipe.first_adversarial
        if self.identity is not None and known:
            terms["identity"] = self.identity(found.image, clean)
        return terms

    @torch.no_grad()
    def preview(self, batch: Batch) -> Mapping[str, Image]:
        """Gives the degraded face, the restored one, and the truth."""
        pair = self.faces(batch)
        named = {"degraded": pair.degraded, "restored": self.result.eval().restore(pair.degraded), "clean": pair.clean}
        return {name: to_unit(image) for name, image in named.items()}

    def _fooling(self, image: Image, wanted: Tensor) -> tuple[Tensor, Tensor]:
        self.discriminator.requires_grad_(False)
        fooling = generator_adversarial_loss(self.discriminator(image))
        self.discriminator.requires_grad_(True)
        last, limit = self.model.decoder.last_layer, self.recipe.adaptive_limit
        adaptive = adaptive_weight(wanted, fooling, last_layer=last, limit=limit)
        return fooling, self.recipe.weights["adversarial"] * adaptive

    def _trained(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, value) for name, value in self.model.named_parameters() if value.requires_grad]


def is_attention(name: str) -> bool:
    """Says whether a parameter of a RestoreFormer belongs to the attention of its decoder.

    Args:
        name: Of the parameter.
    """
    inside = ("norm", "norm_guide", "query", "key", "value", "project")
    return name.startswith("decoder.") and name.split(".")[-2] in inside

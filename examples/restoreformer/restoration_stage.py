"""The second stage: encoder and decoder learn to restore degraded faces by asking the dictionary, which stays."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam

from codeprior.images import to_unit
from codeprior.losses import PerceptualLoss, codebook_loss, style_loss
from codeprior.prior import VQGAN, Reconstruction
from codeprior.shapes import Image
from codeprior.stages import PartsAdversary, PictureStage, prefixed, weighted
from codeprior.training import Batch, Engine, full, step_if_finite

from .model import fresh
from .settings import RestorationSettings


class RestorationStage(PictureStage):
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
        Where the settings weigh `parts_adversarial` or `parts_style`, eyes and mouth have discriminators of their own,
        see `PartsAdversary`. The published training takes their boxes from landmarks beside every face; ours cuts the
        same squares out of every aligned face, so that the faces need no such file and a flipped face no other boxes.
        These terms, like the identity term, begin with the discriminator of the whole picture.
    """

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
        super().__init__(
            recipe, model=fresh(recipe.network, dictionary), perceptual=perceptual, device=device, engine=engine
        )
        self.identity = None if identity is None else identity.to(self.engine.device)
        self.network = self.engine.wrap(self.model)
        self.parts = _parts(recipe, self.engine) if {"parts_adversarial", "parts_style"} & set(recipe.weights) else None
        asking = [value for name, value in self._trained() if is_attention(name)]
        others = [value for name, value in self._trained() if not is_attention(name)]
        groups = [{"params": others}, {"params": asking}]
        self.optimizers["optimizer"] = Adam(groups, lr=recipe.learning_rate, betas=recipe.betas)

    @property
    def saved(self) -> Mapping[str, Any]:
        """What a checkpoint holds."""
        saved = dict(super().saved)
        return saved if self.parts is None else saved | prefixed("parts", self.parts.saved())

    def update(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        """Trains on one batch."""
        rate = self.begin(step)
        self.optimizers["optimizer"].param_groups[1]["lr"] = rate * self.recipe.attention_rate
        pair = self.faces(batch)
        with self.engine.autocast():
            found = self.network(pair.degraded)
        image = full(found.image)
        terms = self.terms(found._replace(image=image), pair.clean, step)
        total = weighted(terms, self.recipe.weights)
        if self.judges(step):
            others = ("codebook", "parts_adversarial", "parts_style")
            pictured = {name: value for name, value in terms.items() if name not in others}
            wanted = weighted(pictured, self.recipe.weights)
            fooling, counted = self.fooling(image, wanted, last_layer=self.model.decoder.last_layer)
            total = total + counted * fooling
            terms |= {"adversarial": fooling, "adaptive_weight": counted}
        self.engine.backward([total])
        skipped = [step_if_finite(self.optimizers["optimizer"], clip=self.recipe.clip)]
        terms["total"] = total
        if self.judges(step):
            terms["discriminator"], more = self.learn_to_judge(pair.clean, image)
            skipped.append(more)
            if self.parts is not None:
                terms["parts_discriminator"], more = self.parts.learn(pair.clean, image, rate * self.recipe.parts_rate)
                skipped.append(more)
        return self.finish(terms, *skipped)

    def terms(self, found: Reconstruction, clean: Image, step: int) -> dict[str, Tensor]:
        """Gives the terms of a step by name, without the adversarial one.

        Args:
            found: Of the degraded faces.
            clean: The same faces, signed.
            step: Number of the update; the terms of identity and parts begin with the discriminator.
        """
        mine, theirs = self.perceptual.features(found.image), self.perceptual.features(clean)
        terms = {
            "l1": (found.image - clean).abs().mean(),
            "perceptual": self.perceptual.compare(mine, theirs).mean(),
            "codebook": codebook_loss(found.latent, found.quantized.codes),
            **self.hatch(found.image, clean),
        }
        if "style" in self.recipe.weights:
            terms["style"] = style_loss(mine, theirs, distance="squared")
        known = "identity" in self.recipe.weights and self.judges(step)
        if self.identity is not None and known:
            terms["identity"] = self.identity(found.image, clean)
        if self.parts is not None and self.judges(step):
            more = self.parts.terms(found.image, clean)
            terms |= {name: value for name, value in more.items() if name in self.recipe.weights}
        return terms

    @torch.no_grad()
    def preview(self, batch: Batch) -> Mapping[str, Image]:
        """Gives the degraded face, the restored one, and the truth."""
        pair = self.faces(batch)
        named = {"degraded": pair.degraded, "restored": self.result.eval().restore(pair.degraded), "clean": pair.clean}
        return {name: to_unit(image) for name, image in named.items()}

    def _trained(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, value) for name, value in self.model.named_parameters() if value.requires_grad]


def _parts(recipe: RestorationSettings, engine: Engine) -> PartsAdversary:
    return PartsAdversary(
        engine, sizes=recipe.parts_sizes, channels=recipe.parts_channels, betas=recipe.parts_betas,
        learning_rate=recipe.learning_rate * recipe.parts_rate,
    )  # fmt: skip


def is_attention(name: str) -> bool:
    """Says whether a parameter of a RestoreFormer belongs to the attention of its decoder.

    Args:
        name: Of the parameter.
    """
    inside = ("norm", "norm_guide", "query", "key", "value", "project")
    return name.startswith("decoder.") and name.split(".")[-2] in inside

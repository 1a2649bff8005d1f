"""The second stage of VQFR's first version: encoder, texture decoder and branch learn together; the codes stay."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Adam

from codeprior.discriminators import PatchGAN
from codeprior.images import to_unit
from codeprior.losses import PerceptualLoss, logistic_generator_loss, style_loss
from codeprior.prior import VQGAN
from codeprior.shapes import Image
from codeprior.stages import PictureStage, adam, prefixed, weighted
from codeprior.training import Batch, Engine, full, step_if_finite

from .judges import adversary
from .model import Both, fresh_first
from .settings import JointSettings


class JointRestorationStage(PictureStage):
    """Trains everything of a first VQFR but its codes, by both of its pictures and the latent.

    Each picture has two discriminators: of patches, whose weight is adaptive, and of the whole face, of wavelets, with
    R1. Those of the texture picture begin at once, those of the final one later. The texture picture has none where the
    settings do not weigh `texture_adversarial`.

    Args:
        recipe: The settings.
        teacher: The auto-encoder of the first stage: its codes of clean faces are targets, and encoder and decoder
            begin as its own.
        perceptual: Distance of two signed images; its features also serve the style terms.
        device: Where to train; an engine's own device goes before it.
        engine: What distributes; one process without it.
    """

    def __init__(
        self,
        recipe: JointSettings,
        *,
        teacher: VQGAN,
        perceptual: PerceptualLoss,
        device: torch.device | str = "cpu",
        engine: Engine | None = None,
    ):
        model = fresh_first(recipe.network, teacher)
        super().__init__(recipe, model=model, perceptual=perceptual, device=device, engine=engine)
        self.teacher = teacher.to(self.engine.device).requires_grad_(False).eval()
        self.network = self.engine.wrap(self.model)
        trained = [value for value in self.model.parameters() if value.requires_grad]
        self.optimizers["optimizer"] = Adam(trained, lr=recipe.learning_rate, betas=recipe.betas)
        self.texture_discriminator = self.texture_judge = None
        if "texture_adversarial" in recipe.weights:
            self.texture_discriminator = PatchGAN(
                recipe.discriminator_channels, recipe.discriminator_layers, norm=recipe.discriminator_norm
            )
            self.texture_judge = self.engine.wrap(self.texture_discriminator)
            self.optimizers["texture_discriminator_optimizer"] = adam(self.texture_discriminator, recipe)
        self.wholes = {
            prefix: adversary(recipe, self.engine, kind="wavelets")
            for prefix in ("texture_", "")
            if f"{prefix}whole" in recipe.weights
        }

    @property
    def saved(self) -> Mapping[str, Any]:
        """What a checkpoint holds."""
        parts = dict(super().saved)
        if self.texture_discriminator is not None:
            parts["texture_discriminator"] = self.texture_discriminator
        for prefix, whole in self.wholes.items():
            parts |= prefixed(f"{prefix}whole", whole.saved_alone())
        return parts

    def update(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        """Trains on one batch."""
        rate = self.begin(step)
        # codes that follow moving averages do not move here
        self.model.codebook.eval()
        pair = self.faces(batch)
        with torch.no_grad():
            target = self.teacher.encode(pair.clean).codes
        with self.engine.autocast():
            given = self.network(pair.degraded)
        found = Both(*(full(part) for part in given))
        pictures = {"texture_": found.texture, "": found.image}
        seen = self.perceptual.features(pair.clean)
        terms = {"feature": F.mse_loss(found.latent, target)}
        total = self.recipe.weights["feature"] * terms["feature"]
        for prefix, image in pictures.items():
            mine = self._of_picture(image, pair.clean, seen, prefix)
            wanted = weighted(mine, self.recipe.weights)
            terms |= mine
            total = total + wanted
            if self.judges_picture(prefix, step):
                more, counted = self._fooled(image, wanted, prefix)
                terms |= more
                total = total + counted
        self.engine.backward([total])
        terms["total"] = total
        skipped = [step_if_finite(self.optimizers["optimizer"], clip=self.recipe.clip)]
        for prefix, image in pictures.items():
            if self.judges_picture(prefix, step):
                terms |= self._judged(pair.clean, image, prefix, step, rate, skipped)
        return self.finish(terms, *skipped)

    def judges_picture(self, prefix: str, step: int) -> bool:
        """Says whether the discriminators of a picture count at a step, and learn.

        Args:
            prefix: `"texture_"`, or `""` for the final picture.
            step: Number of the update.
        """
        return self.judges(step) if prefix == "" else self.texture_discriminator is not None

    @torch.no_grad()
    def preview(self, batch: Batch) -> Mapping[str, Image]:
        """Gives the degraded face, both pictures, and the truth."""
        pair = self.faces(batch)
        found = self.result.eval()(pair.degraded)
        named = {"degraded": pair.degraded, "texture": found.texture, "restored": found.image, "clean": pair.clean}
        return {name: to_unit(image) for name, image in named.items()}

    def _of_picture(self, image: Image, clean: Image, seen: Sequence[Tensor], prefix: str) -> dict[str, Tensor]:
        mine, weights = self.perceptual.features(image), self.recipe.weights
        terms = {}
        if f"{prefix}l1" in weights:
            terms[f"{prefix}l1"] = (image - clean).abs().mean()
        if f"{prefix}perceptual" in weights:
            terms[f"{prefix}perceptual"] = self.perceptual.compare(mine, seen).mean()
        if f"{prefix}style" in weights:
            terms[f"{prefix}style"] = style_loss(mine, seen)
        return terms | self.hatch(image, clean, prefix=prefix)

    def _fooled(self, image: Image, wanted: Tensor, prefix: str) -> tuple[dict[str, Tensor], Tensor]:
        texture = prefix == "texture_"
        fooling, weight = self.fooling(
            image, wanted, last_layer=self.model.decoder.last_layer if texture else self.model.conv_out,
            term=f"{prefix}adversarial", discriminator=self.texture_discriminator if texture else None,
        )  # fmt: skip
        terms, counted = {f"{prefix}adversarial": fooling, f"{prefix}adaptive_weight": weight}, weight * fooling
        if prefix in self.wholes:
            name = f"{prefix}whole"
            terms[name] = logistic_generator_loss(self.wholes[prefix].judged(image).scores)
            counted = counted + self.recipe.weights[name] * terms[name]
        return terms, counted

    def _judged(
        self, clean: Image, image: Image, prefix: str, step: int, rate: float, skipped: list[Tensor]
    ) -> dict[str, Tensor]:  # fmt: skip
        texture = prefix == "texture_"
        loss, more = self.learn_to_judge(
            clean, image, judge=self.texture_judge if texture else None, optimizer=f"{prefix}discriminator_optimizer"
        )
        skipped.append(more)
        terms = {f"{prefix}discriminator": loss}
        if prefix in self.wholes:
            found = self.wholes[prefix].learn(clean, image, step, rate)
            skipped.append(cast(Tensor, found.pop("skipped")))
            terms |= prefixed(f"{prefix}whole", found)
        return terms

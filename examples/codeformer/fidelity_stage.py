"""Stage III: the taps learn how far to follow the picture, and the codes go on being learned.

Steps of two kinds alternate as `FidelitySettings.phase` says. On mildly damaged faces a picture is made with the taps
and compared with the truth, and a discriminator judges it; on severely damaged ones only codes are learned.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeprior import distributed, to_unit
from codeprior.discriminators import PatchGAN
from codeprior.losses import code_loss
from codeprior.prior import VQGAN
from codeprior.shapes import Image
from codeprior.stages import Faces, PictureStage, adam, weighted
from codeprior.training import Batch, Engine, full, step_if_finite

from .model import CodeFormer, Prediction, fresh_taps
from .settings import FidelitySettings


class FidelityStage(PictureStage):
    """Trains the taps, the encoder and the code predictor of a CodeFormer.

    Args:
        recipe: The settings.
        model: Of the second stage; taps that it has are trained further, else they are drawn.
        teacher: The auto-encoder of the first stage, frozen; it gives the targets.
        perceptual: Distance of two signed images.
        discriminator: Of the first stage, to go on with; without it one is drawn. The published options name one of the
            second stage, which that stage never writes.
        device: Where to train; an engine's own device goes before it.
        engine: What distributes; one process without it.

    Note:
        Gradients are averaged over ranks by the stage itself, because the taps have none in steps that learn codes.
        Where the published code makes a picture with a weight of 0, whose adaptive weight fails, ours learns codes.
    """

    def __init__(
        self,
        recipe: FidelitySettings,
        *,
        model: CodeFormer,
        teacher: VQGAN,
        perceptual: nn.Module,
        discriminator: PatchGAN | None = None,
        device: torch.device | str = "cpu",
        engine: Engine | None = None,
    ):
        taps = fresh_taps(recipe.network) if model.taps is None else model.taps
        super().__init__(
            replace(recipe, degradation=recipe.mild), model=model.with_taps(taps, task=recipe.task),
            perceptual=perceptual, discriminator=discriminator, device=device, engine=engine,
        )  # fmt: skip
        self.recipe = recipe
        device = self.engine.device
        # faces of steps that learn codes only; those of `faces` make pictures
        severe = replace(recipe, degradation=recipe.severe)
        self.severe_faces = Faces.of(severe, size=recipe.network.size, device=device)
        self.teacher = teacher.to(device).requires_grad_(False).eval()
        self.model.requires_grad_(True)
        self.model.prior.requires_grad_(False)
        self.optimizers["optimizer"] = adam(self.model, recipe)

    def update(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        """Trains on one batch, in the way of the step's phase."""
        self.begin(step)
        phase = self.recipe.phase(step)
        pair = (self.faces if phase.damage == "mild" else self.severe_faces)(batch)
        with torch.no_grad():
            target = self.teacher.encode(pair.clean)
        taps = self.model.taps
        recorder = None if phase.fidelity is None or taps is None else taps.recorder()
        with self.engine.autocast():
            # a predictor of several tables is given the codes of the tables before
            known = target.indices if target.indices.ndim == 4 else None
            prediction = self.model(pair.degraded, known, record=recorder)
        prediction = Prediction(full(prediction.logits), full(prediction.latent))
        terms = {
            "feature": F.mse_loss(prediction.latent, target.codes.detach()),
            "code": code_loss(prediction.logits, target.indices),
        }
        weights = self.recipe.weights
        total = weighted(terms, weights)
        image = None
        if recorder is not None and phase.fidelity is not None:
            with self.engine.autocast():
                image = self.model.decode(prediction, recorder, fidelity=phase.fidelity)
            image = full(image)
            pictured = {"l1": (image - pair.clean).abs().mean(), "perceptual": self.perceptual(image, pair.clean)}
            pictured |= self.hatch(image, pair.clean)
            wanted = weighted(pictured, weights)
            total = total + wanted
            terms |= pictured
            if self.judges(step):
                last = cast(nn.Sequential, self.model.taps.modulations[-1].shift)[-1]
                fooling, counted = self.fooling(image, wanted, last_layer=last)
                total = total + counted * fooling
                terms |= {"adversarial": fooling, "adaptive_weight": counted}
        self.engine.backward([total])
        # every rank has the same phase, so the same parameters have a gradient everywhere
        distributed.average_gradients(self.model.parameters())
        skipped = [step_if_finite(self.optimizers["optimizer"], clip=self.recipe.clip)]
        terms["total"] = total
        if image is not None and self.judges(step):
            terms["discriminator"], more = self.learn_to_judge(pair.clean, image)
            skipped.append(more)
        return self.finish(terms, *skipped)

    @torch.no_grad()
    def preview(self, batch: Batch) -> Mapping[str, Image]:
        """Gives the mildly degraded face, the restored ones at three weights, and the truth."""
        pair, model = self.faces(batch), self.result.eval()
        named = {"degraded": pair.degraded}
        named |= {f"fidelity {weight}": model.restore(pair.degraded, fidelity=weight) for weight in (0.0, 0.5, 1.0)}
        return {name: to_unit(image) for name, image in (named | {"clean": pair.clean}).items()}

"""Stage III: the taps learn how far to follow the picture, and the codes go on being learned.

Steps of two kinds alternate as `FidelitySettings.phase` says. On mildly damaged faces a picture is made with the taps
and compared with the truth, and a discriminator judges it; on severely damaged ones only codes are learned.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam

from codeprior import distributed, to_unit
from codeprior.discriminators import PatchGAN
from codeprior.losses import (
    adaptive_weight,
    code_loss,
    generator_adversarial_loss,
    hinge_discriminator_loss,
)
from codeprior.prior import VQGAN
from codeprior.shapes import Image
from codeprior.stages import Faces, Measured, adam, rate_at, set_rate
from codeprior.training import Batch, Engine, TorchEngine, WeightAverage, full, step_if_finite

from .model import CodeFormer, Prediction, fresh_taps
from .settings import FidelitySettings


class FidelityStage:
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

    measured: Measured = "restored"

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
        self.recipe: Any = recipe
        self.engine = engine or TorchEngine(device)
        device = self.engine.device
        # faces of steps that make pictures, and of steps that learn codes only
        self.faces, self.severe_faces = (
            Faces.of(replace(recipe, degradation=damage), size=recipe.network.size, device=device)
            for damage in (recipe.mild, recipe.severe)
        )
        self.teacher = teacher.to(device).requires_grad_(False).eval()
        taps = fresh_taps(recipe.network) if model.taps is None else model.taps
        self.model = model.with_taps(taps).to(device).requires_grad_(True)
        self.model.prior.requires_grad_(False)
        self.perceptual = perceptual.to(device)
        drawn = PatchGAN(recipe.discriminator_channels, recipe.discriminator_layers, norm=recipe.discriminator_norm)
        self.discriminator = (discriminator or drawn).to(device)
        self.optimizer = adam(self.model, recipe)
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
    def result(self) -> CodeFormer:
        """The model that is handed on: the average of the weights where there is one."""
        return self.model if self.average is None else cast(CodeFormer, self.average.module)

    @property
    def results(self) -> Mapping[str, nn.Module]:
        """What restores faces."""
        return {"restorer": self.result}

    def answer(self, degraded: Image) -> Image:
        """Gives what the model that is handed on makes of degraded faces `b 3 H W`, signed, at a fidelity of 0.5."""
        return self.result.eval().restore(degraded)

    def update(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        """Trains on one batch, in the way of the step's phase."""
        self.model.train()
        for optimizer in (self.optimizer, self.discriminator_optimizer):
            optimizer.zero_grad(set_to_none=True)
            set_rate(optimizer, rate_at(self.recipe, step))
        phase = self.recipe.phase(step)
        pair = (self.faces if phase.damage == "mild" else self.severe_faces)(batch)
        with torch.no_grad():
            target = self.teacher.encode(pair.clean)
        taps = self.model.taps
        recorder = None if phase.fidelity is None or taps is None else taps.recorder()
        with self.engine.autocast():
            # a predictor of several tables is told the codes of those before it
            known = target.indices if target.indices.ndim == 4 else None
            prediction = self.model(pair.degraded, known, record=recorder)
        prediction = Prediction(full(prediction.logits), full(prediction.latent))
        terms = {
            "feature": F.mse_loss(prediction.latent, target.codes.detach()),
            "code": code_loss(prediction.logits, target.indices),
        }
        total = self._weighed(terms)
        image = None
        if recorder is not None and phase.fidelity is not None:
            with self.engine.autocast():
                image = self.model.decode(prediction, recorder, fidelity=phase.fidelity)
            image = full(image)
            pictured = {"l1": (image - pair.clean).abs().mean(), "perceptual": self.perceptual(image, pair.clean)}
            total = total + self._weighed(pictured)
            terms |= pictured
            if step >= self.recipe.first_adversarial:
                fooling, counted = self._fooling(image, self._weighed(pictured))
                total = total + counted * fooling
                terms |= {"adversarial": fooling, "adaptive_weight": counted}
        self.engine.backward([total])
        skipped = self._stepped(self.optimizer, clip=self.recipe.clip)
        terms["total"] = total
        if image is not None and step >= self.recipe.first_adversarial:
            judged, more = self._judge(pair.clean, image.detach())
            terms["discriminator"], skipped = judged, torch.maximum(skipped, more)
        if self.average is not None:
            self.average.update()
        return {name: value.detach() for name, value in terms.items()} | {"skipped": skipped}

    def _weighed(self, terms: Mapping[str, Tensor]) -> Tensor:
        return torch.stack([self.recipe.weights[name] * value for name, value in terms.items()]).sum()

    def _fooling(self, image: Image, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Gives the adversarial term of the taps, and how much it counts."""
        taps = self.model.taps
        assert taps is not None
        last = cast(nn.Sequential, taps.modulations[-1].shift)[-1]
        self.discriminator.requires_grad_(False)
        fooling = generator_adversarial_loss(self.discriminator(image))
        self.discriminator.requires_grad_(True)
        adaptive = adaptive_weight(wanted, fooling, last_layer=last, limit=self.recipe.adaptive_limit)
        return fooling, self.recipe.weights["adversarial"] * adaptive

    def _judge(self, clean: Image, made: Image) -> tuple[Tensor, Tensor]:
        loss = hinge_discriminator_loss(self.discriminator(clean), self.discriminator(made))
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        self.engine.backward([loss])
        return loss, self._stepped(self.discriminator_optimizer, clip=None)

    def _stepped(self, optimizer: Adam, *, clip: float | None) -> Tensor:
        if self.engine.world > 1:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    # every rank has the same phase, so the same parameters have a gradient everywhere
                    if parameter.grad is not None:
                        parameter.grad = distributed.mean_over_ranks(parameter.grad)
        return step_if_finite(optimizer, clip=clip)

    @torch.no_grad()
    def preview(self, batch: Batch) -> Mapping[str, Image]:
        """Gives the mildly degraded face, the restored ones at three weights, and the truth."""
        pair, model = self.faces(batch), self.result.eval()
        named = {"degraded": pair.degraded}
        named |= {f"fidelity {weight}": model.restore(pair.degraded, fidelity=weight) for weight in (0.0, 0.5, 1.0)}
        return {name: to_unit(image) for name, image in (named | {"clean": pair.clean}).items()}

"""The second stage of VQFR's second version: codes are learned, and textures are warped to the degraded face."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam

from codeprior import distributed
from codeprior.discriminators import PatchGAN
from codeprior.images import to_unit
from codeprior.layers import ResidualBlock
from codeprior.losses import adaptive_weight, code_loss, generator_adversarial_loss, hinge_discriminator_loss
from codeprior.prior import VQGAN
from codeprior.shapes import Image
from codeprior.stages import Faces, Measured, rate_at
from codeprior.training import Batch, Engine, TorchEngine, WeightAverage, full, step_if_finite

from .model import Prediction, VQFRv2, fresh
from .settings import RestorationSettings


class RestorationStage:
    """Trains the encoder, the predictor and the branch of a VQFR; its prior stays.

    The picture's terms move the branch alone, the codes' terms the encoder and the predictor.

    Args:
        recipe: The settings.
        teacher: The auto-encoder of the first stage, frozen: it gives targets, prior and the encoder's beginning.
        perceptual: Distance of two signed images.
        device: Where to train; an engine's own device goes before it.
        engine: What distributes; one process without it.

    Note:
        The published training has a global discriminator (StyleGAN2's, with R1) beside the one of patches, and never
        zeroes its gradients. It is not here. The adaptive weight is measured at the branch's last convolution.
    """

    measured: Measured = "restored"

    def __init__(
        self,
        recipe: RestorationSettings,
        *,
        teacher: VQGAN,
        perceptual: nn.Module,
        device: torch.device | str = "cpu",
        engine: Engine | None = None,
    ):
        self.recipe: Any = recipe
        self.engine = engine or TorchEngine(device)
        device = self.engine.device
        self.faces = Faces.of(recipe, size=recipe.network.size, device=device)
        self.teacher = teacher.to(device).requires_grad_(False).eval()
        self.perceptual = perceptual.to(device)
        self.model = fresh(recipe.network, teacher).to(device)
        self.discriminator = PatchGAN(
            recipe.discriminator_channels, recipe.discriminator_layers, norm=recipe.discriminator_norm
        ).to(device)
        assert self.model.predictor is not None
        codes = [*self.model.encoder.parameters(), *self.model.predictor.parameters()]
        self.optimizers = {
            "codes": Adam(codes, betas=recipe.betas),
            "branch": Adam(self.model.branch.parameters(), betas=recipe.branch_betas),
            "discriminator": Adam(self.discriminator.parameters(), betas=recipe.branch_betas),
        }
        self.average = None if recipe.average is None else WeightAverage(self.model, decay=recipe.average)

    @property
    def saved(self) -> Mapping[str, Any]:
        """What a checkpoint holds."""
        parts = {"model": self.model, "discriminator": self.discriminator}
        parts |= {f"{name}_optimizer": optimizer for name, optimizer in self.optimizers.items()}
        return parts if self.average is None else parts | {"average": self.average}

    @property
    def result(self) -> VQFRv2:
        """The model that is handed on: the average of the weights where there is one."""
        return self.model if self.average is None else cast(VQFRv2, self.average.module)

    @property
    def results(self) -> Mapping[str, nn.Module]:
        """What restores faces."""
        return {"restorer": self.result}

    def answer(self, degraded: Image) -> Image:
        """Gives what the model that is handed on makes of degraded faces `b 3 H W`, signed, at a fidelity of 1."""
        return self.result.eval().restore(degraded, fidelity=1.0)

    def update(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        """Trains on one batch."""
        self.model.train()
        rate = rate_at(self.recipe, step)
        for name, optimizer in self.optimizers.items():
            optimizer.zero_grad(set_to_none=True)
            optimizer.param_groups[0]["lr"] = rate * (1.0 if name == "codes" else self.recipe.branch_rate)
        pair = self.faces(batch)
        with torch.no_grad():
            target = self.teacher.encode(pair.clean)
        with self.engine.autocast():
            prediction = self.model(pair.degraded)
            assert prediction.logits is not None
            image = self.model.decode(prediction, pair.degraded)
        image = full(image)
        prediction = Prediction(full(prediction.logits), full(prediction.latent))
        terms = {
            "l1": (image - pair.clean).abs().mean(),
            "perceptual": self.perceptual(image, pair.clean),
            "feature": F.mse_loss(prediction.latent, target.codes),
            "code": code_loss(cast(Tensor, prediction.logits), target.indices),
        }
        total = torch.stack([self.recipe.weights[name] * value for name, value in terms.items()]).sum()
        judging = step >= self.recipe.first_adversarial
        if judging:
            fooling, counted = self._fooling(image, terms["perceptual"])
            total = total + counted * fooling
            terms |= {"adversarial": fooling, "adaptive_weight": counted}
        self.engine.backward([total])
        self._average_gradients("codes", "branch")
        skipped = step_if_finite(self.optimizers["codes"], self.optimizers["branch"], clip=self.recipe.clip)
        if judging:
            loss = hinge_discriminator_loss(self.discriminator(pair.clean), self.discriminator(image.detach()))
            self.engine.backward([loss])
            self._average_gradients("discriminator")
            skipped = torch.maximum(skipped, step_if_finite(self.optimizers["discriminator"]))
            terms["discriminator"] = loss
        if self.average is not None:
            self.average.update()
        terms["total"] = total
        return {name: value.detach() for name, value in terms.items()} | {"skipped": skipped}

    @torch.no_grad()
    def preview(self, batch: Batch) -> Mapping[str, Image]:
        """Gives the degraded face, the restored ones at three ratios, and the truth."""
        pair, model = self.faces(batch), self.result.eval()
        named = {"degraded": pair.degraded}
        named |= {f"fidelity {ratio}": model.restore(pair.degraded, fidelity=ratio) for ratio in (0.0, 0.5, 1.0)}
        return {name: to_unit(image) for name, image in (named | {"clean": pair.clean}).items()}

    def _fooling(self, image: Image, wanted: Tensor) -> tuple[Tensor, Tensor]:
        last = cast(ResidualBlock, self.model.branch.blocks[-1]).conv2
        self.discriminator.requires_grad_(False)
        fooling = generator_adversarial_loss(self.discriminator(image))
        self.discriminator.requires_grad_(True)
        adaptive = adaptive_weight(wanted, fooling, last_layer=last, limit=self.recipe.adaptive_limit)
        return fooling, self.recipe.weights["adversarial"] * adaptive

    def _average_gradients(self, *names: str) -> None:
        """Averages gradients over ranks, which no wrapper does for a model that is called in two parts."""
        if self.engine.world == 1:
            return
        for name in names:
            for parameter in self.optimizers[name].param_groups[0]["params"]:
                if parameter.grad is not None:
                    parameter.grad = distributed.mean_over_ranks(parameter.grad)

"""The second stage of VQFR's second version: codes are learned, and textures are warped to the degraded face."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam

from codeprior import distributed
from codeprior.images import to_unit
from codeprior.losses import code_loss, logistic_generator_loss
from codeprior.prior import VQGAN
from codeprior.shapes import Image
from codeprior.stages import PictureStage, prefixed, set_rate, weighted
from codeprior.training import Batch, Engine, full, step_if_finite

from .judges import adversary
from .model import Prediction, fresh
from .settings import RestorationSettings


class RestorationStage(PictureStage):
    """Trains the encoder, the predictor and the branch of a VQFR; its prior stays.

    The picture's terms move the branch alone, the codes' terms the encoder and the predictor.

    Args:
        recipe: The settings.
        teacher: The auto-encoder of the first stage, frozen: it gives targets, prior and the encoder's beginning.
        perceptual: Distance of two signed images.
        device: Where to train; an engine's own device goes before it.
        engine: What distributes; one process without it.

    Note:
        Where the settings weigh `whole`, a discriminator of the whole face (StyleGAN2's, with R1) learns beside the one
        of patches. The published training never zeroes its gradients; ours does. The adaptive weight is measured at the
        branch's last convolution, and is that of the patches alone.
    """

    def __init__(
        self,
        recipe: RestorationSettings,
        *,
        teacher: VQGAN,
        perceptual: nn.Module,
        device: torch.device | str = "cpu",
        engine: Engine | None = None,
    ):
        super().__init__(
            recipe, model=fresh(recipe.network, teacher), perceptual=perceptual, device=device, engine=engine
        )
        self.teacher = teacher.to(self.engine.device).requires_grad_(False).eval()
        codes = [*self.model.encoder.parameters(), *self.model.predictor.parameters()]
        branch, betas = self.model.branch.parameters(), recipe.branch_betas
        self.optimizers = {
            "codes_optimizer": Adam(codes, betas=recipe.betas),
            "branch_optimizer": Adam(branch, betas=betas),
            "discriminator_optimizer": Adam(self.discriminator.parameters(), betas=betas),
        }
        self.whole = None
        if "whole" in recipe.weights:
            self.whole = adversary(recipe, self.engine, kind="whole", rate=recipe.branch_rate, betas=betas)

    @property
    def saved(self) -> Mapping[str, Any]:
        """What a checkpoint holds."""
        parts = super().saved
        return dict(parts) if self.whole is None else dict(parts) | prefixed("whole", self.whole.saved_alone())

    def answer(self, degraded: Image) -> Image:
        """Gives what the model that is handed on makes of degraded faces `b 3 H W`, signed, at a fidelity of 1."""
        return self.result.eval().restore(degraded, fidelity=1.0)

    def update(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        """Trains on one batch."""
        rate = self.begin(step)
        for name in ("branch_optimizer", "discriminator_optimizer"):
            set_rate(self.optimizers[name], rate * self.recipe.branch_rate)
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
            **self.hatch(image, pair.clean),
        }
        total = weighted(terms, self.recipe.weights)
        if self.judges(step):
            last = self.model.branch.blocks[-1].conv2
            fooling, counted = self.fooling(image, terms["perceptual"], last_layer=last)
            total = total + counted * fooling
            terms |= {"adversarial": fooling, "adaptive_weight": counted}
            if self.whole is not None:
                terms["whole"] = logistic_generator_loss(self.whole.judged(image).scores)
                total = total + self.recipe.weights["whole"] * terms["whole"]
        self.engine.backward([total])
        # no wrapper does it for a model that is called in two parts
        distributed.average_gradients(self.model.parameters())
        restoring = (self.optimizers[name] for name in ("codes_optimizer", "branch_optimizer"))
        skipped = [step_if_finite(*restoring, clip=self.recipe.clip)]
        if self.judges(step):
            terms["discriminator"], more = self.learn_to_judge(pair.clean, image)
            skipped.append(more)
            if self.whole is not None:
                found = self.whole.learn(pair.clean, image, step, rate)
                skipped.append(found.pop("skipped"))
                terms |= prefixed("whole", found)
        return self.finish(terms | {"total": total}, *skipped)

    @torch.no_grad()
    def preview(self, batch: Batch) -> Mapping[str, Image]:
        """Gives the degraded face, the restored ones at three ratios, and the truth."""
        pair, model = self.faces(batch), self.result.eval()
        named = {"degraded": pair.degraded}
        named |= {f"fidelity {ratio}": model.restore(pair.degraded, fidelity=ratio) for ratio in (0.0, 0.5, 1.0)}
        return {name: to_unit(image) for name, image in (named | {"clean": pair.clean}).items()}

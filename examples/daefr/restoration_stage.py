"""Stage 3: which clean codes stand behind a degraded face.

The targets come from the frozen VQGAN of stage 1a; the decoder never runs while training.
"""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeprior import to_unit
from codeprior.codebooks import Quantized
from codeprior.losses import code_accuracy, code_loss
from codeprior.prior import VQGAN
from codeprior.shapes import Image
from codeprior.training import Batch, CodeCache, Engine, TorchEngine, WeightAverage, full, step_if_finite

from .data import Faces
from .model import DAEFR, SingleEncoder, restorer
from .recipes import RestorationRecipe
from .updates import adam, apart, means, rate_at


class RestorationStage:
    """Trains the encoders, the fusion and the code predictor of a restorer.

    Args:
        recipe: The configuration.
        teacher: The VQGAN of stage 1a: it gives the targets and the prior, and is frozen.
        hq: The HQ VQGAN of stage 2, whose encoder begins the HQ branch; of stage 1a for the single branch.
        lq: The LQ VQGAN of stage 2, whose encoder begins the LQ branch; None for the single branch.
        device: Where to train; an engine's own device goes before it.
        engine: What distributes; one process without it.

    Raises:
        ValueError: A dual recipe came without `lq`.
    """

    def __init__(
        self,
        recipe: RestorationRecipe,
        *,
        teacher: VQGAN,
        hq: VQGAN,
        lq: VQGAN | None = None,
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
        self.teacher = teacher.to(device).requires_grad_(False).eval()
        self.cache: CodeCache | None = None
        self.prior = teacher.prior()
        self.model = restorer(recipe, self.prior)
        if isinstance(self.model, DAEFR):
            if lq is None:
                raise ValueError("RestorationStage: a dual recipe needs the LQ network of stage 2; pass lq=.")
            self.model.hq_encoder.load_state_dict(hq.encoder.state_dict())
            self.model.lq_encoder.load_state_dict(lq.encoder.state_dict())
        else:
            self.model.encoder.load_state_dict(hq.encoder.state_dict())
        # the frozen networks stay outside; the wrapped one trains every parameter that asks for a gradient
        self.network = self.engine.wrap(self.model)
        self.optimizer = adam(self.model, recipe)
        self.average = None if recipe.average is None else WeightAverage(self.model, decay=recipe.average)

    @property
    def saved(self) -> Mapping[str, Any]:
        """What a checkpoint holds."""
        parts = {"model": self.model, "optimizer": self.optimizer}
        return parts if self.average is None else parts | {"average": self.average}

    @property
    def result(self) -> DAEFR | SingleEncoder:
        """The model that is handed on: the average of the weights where there is one."""
        return self.model if self.average is None else cast(DAEFR, self.average.module)

    @property
    def results(self) -> Mapping[str, nn.Module]:
        """What restores faces."""
        return {"restorer": self.result}

    def restore(self, degraded: Image) -> Image:
        """Gives what the model that is handed on makes of degraded faces `b 3 H W`, signed."""
        return self.result.eval().restore(degraded)

    def losses(self, degraded: Image, target: Quantized) -> dict[str, Tensor]:
        """Gives the code loss, the feature loss, their weighted sum, and the share of codes that are right.

        Args:
            degraded: `b 3 H W`, signed.
            target: Codes of the clean faces.
        """
        with self.engine.autocast():
            logits, fused = self.network(degraded, target.indices)
        logits, fused = full(logits), full(fused)
        parts = {"code": code_loss(logits, target.indices), "feature": F.mse_loss(fused, target.codes.detach())}
        total = torch.stack([weight * parts[name] for name, weight in self.recipe.weights.items()]).sum()
        return parts | {"total": total, "accuracy": code_accuracy(logits, target.indices)}

    @torch.no_grad()
    def target(self, batch: Batch, clean: Image) -> Quantized:
        """Gives the codes of clean faces: from the cache where there is one, else from the teacher's encoder.

        Args:
            batch: Says which faces they are.
            clean: `b 3 H W`, signed.
        """
        if self.cache is None:
            return self.teacher.encode(clean)
        indices = self.cache.codes(batch.indices, batch.flipped).to(clean.device)
        codes = self.prior.lookup(indices)
        return Quantized(codes, codes, indices)

    def update(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        """Trains on one batch."""
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = rate_at(self.recipe, step)
        self.optimizer.zero_grad(set_to_none=True)
        parts, found = batch.parts(self.recipe.accumulate), []
        for number, part in enumerate(parts):
            pair = self.faces(part)
            target = self.target(part, pair.clean)
            with apart(self.engine, number + 1 == len(parts), self.network):
                losses = self.losses(pair.degraded, target)
                self.engine.backward([losses["total"] / len(parts)])
            found.append({name: value.detach() for name, value in losses.items()})
        skipped = step_if_finite(self.optimizer, clip=self.recipe.clip)
        if self.average is not None:
            self.average.update()
        return means(found) | {"skipped": skipped}

    @torch.no_grad()
    def preview(self, batch: Batch) -> Mapping[str, Image]:
        """Gives the degraded face, the restored one, the best that the prior could do, and the truth."""
        pair = self.faces(batch)
        return {
            "degraded": to_unit(pair.degraded),
            "restored": to_unit(self.restore(pair.degraded)),
            "prior": to_unit(self.teacher(pair.clean).image),
            "clean": to_unit(pair.clean),
        }

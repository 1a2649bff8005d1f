"""Predicting codes: which clean codes stand behind a degraded image.

The targets come from a frozen VQGAN of clean images; its decoder never runs while training. DAEFR's third stage
(Tsai et al. 2024) and CodeFormer's second (Zhou et al. 2022) are this update with different weights.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeprior import distributed
from codeprior.codebooks import Quantized
from codeprior.images import to_unit
from codeprior.losses import code_accuracy, code_loss
from codeprior.prior import VQGAN
from codeprior.shapes import Image
from codeprior.stages.pairs import Faces, Measured
from codeprior.stages.settings import CodeSettings
from codeprior.stages.updates import adam, update_by, weighted
from codeprior.training import (
    Batch,
    CodeCache,
    Engine,
    Made,
    Source,
    TorchEngine,
    WeightAverage,
    full,
    weights_sha256,
    write_codes,
)


class PredictsCodes(Protocol):
    """A model that can be trained here: an `nn.Module` whose frozen parts ask for no gradient.

    Called with degraded images `b 3 H W`, signed, it gives two tensors: logits `b h w k`, and the latent `b d h w` that
    they were read from. With several tables it is also given the true indices `b m h w`; the logits are `b m h w k`.
    """

    def restore(self, degraded: Image) -> Image:
        """Gives restored images, signed, for degraded ones."""
        ...


class CodeStage:
    """Trains a model to predict codes of clean images from degraded ones.

    weights["code"] · cross-entropy of the codes + weights["feature"] · mean squared distance of latent and codes.

    Args:
        recipe: The settings.
        model: What is trained, see `PredictsCodes`; its encoders have been started already.
        teacher: The VQGAN of clean images: it gives the targets, and is frozen.
        size: Side of the images, pixels.
        device: Where to train; an engine's own device goes before it.
        engine: What distributes; one process without it.
    """

    measured: Measured = "restored"

    def __init__(
        self,
        recipe: CodeSettings,
        *,
        model: nn.Module,
        teacher: VQGAN,
        size: int,
        device: torch.device | str = "cpu",
        engine: Engine | None = None,
    ):
        self.recipe: Any = recipe
        self.engine = engine or TorchEngine(device)
        device = self.engine.device
        self.faces = Faces.of(recipe, size=size, device=device)
        self.teacher = teacher.to(device).requires_grad_(False).eval()
        self.cache: CodeCache | None = None
        self.model: Any = model
        # the frozen networks stay outside; the wrapped one trains every parameter that asks for a gradient
        self.network = self.engine.wrap(model)
        self.optimizer = adam(model, recipe)
        self.average = WeightAverage(model, decay=recipe.average)

    @property
    def saved(self) -> Mapping[str, Any]:
        """What a checkpoint holds."""
        return {"model": self.model, "optimizer": self.optimizer, **self.average.parts}

    @property
    def result(self) -> nn.Module:
        """The model that is handed on: the average of the weights where there is one."""
        return self.average.module

    @property
    def results(self) -> Mapping[str, nn.Module]:
        """What restores."""
        return {"restorer": self.result}

    def update(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        """Trains on one batch."""
        self.model.train()
        return update_by(
            self._losses, batch, step, settings=self.recipe, engine=self.engine, network=self.network,
            optimizer=self.optimizer, average=self.average,
        )  # fmt: skip

    def losses(self, degraded: Image, target: Quantized) -> dict[str, Tensor]:
        """Gives the code loss, the feature loss, their weighted sum, and the share of codes that are right.

        Args:
            degraded: `b 3 H W`, signed.
            target: Codes of the clean images.
        """
        with self.engine.autocast():
            # a head of several tables reads the codes of those before it
            known = (target.indices,) if target.indices.ndim == 4 else ()
            logits, latent = self.network(degraded, *known)
        logits, latent = full(logits), full(latent)
        parts = {"code": code_loss(logits, target.indices), "feature": F.mse_loss(latent, target.codes.detach())}
        weights = self.recipe.weights
        total = weighted({name: parts[name] for name in weights}, weights)
        return parts | {"total": total, "accuracy": code_accuracy(logits, target.indices)}

    @torch.no_grad()
    def target(self, batch: Batch, clean: Image) -> Quantized:
        """Gives the codes of clean images: from the cache where there is one, else from the teacher's encoder.

        Args:
            batch: Says which images they are.
            clean: `b 3 H W`, signed.
        """
        if self.cache is None:
            return self.teacher.encode(clean)
        indices = self.cache.codes(batch.indices, batch.flipped).to(clean.device)
        codes = self.teacher.codebook.lookup(indices)
        return Quantized(codes, codes, indices)

    def restore(self, degraded: Image) -> Image:
        """Gives what the model that is handed on makes of degraded images `b 3 H W`, signed."""
        return cast(PredictsCodes, self.result.eval()).restore(degraded)

    answer = restore

    @torch.no_grad()
    def preview(self, batch: Batch) -> Mapping[str, Image]:
        """Gives the degraded image, the restored one, the best that the prior could do, and the truth."""
        pair = self.faces(batch)
        return {
            "degraded": to_unit(pair.degraded),
            "restored": to_unit(self.restore(pair.degraded)),
            "prior": to_unit(self.teacher(pair.clean).image),
            "clean": to_unit(pair.clean),
        }

    def _losses(self, part: Batch) -> dict[str, Tensor]:
        pair = self.faces(part)
        return self.losses(pair.degraded, self.target(part, pair.clean))


def use_cached_codes(stage: CodeStage, path: str | Path, images: Source) -> float:
    """Lets a stage take its targets from a file, which is made first where there is none.

    Args:
        stage: The teacher's encoder no longer runs in its updates.
        path: The file; on a disk that all ranks see.
        images: What the stage will train on.

    Returns:
        The share of codes that agreed when 64 images were encoded again.

    Raises:
        ValueError: The file was made from another encoder, codebook, set of images or size, or is damaged.
    """

    @torch.no_grad()
    def encode(levels: torch.Tensor) -> torch.Tensor:
        return stage.teacher.encode(stage.faces.clean(levels.to(stage.engine.device))).indices

    size = stage.faces.size
    made = Made(
        encoder=weights_sha256(stage.teacher.get_submodule("encoder")),
        codebook=weights_sha256(stage.teacher.get_submodule("codebook")),
        images=images.fingerprint,
        preprocessing=f"8-bit levels, resized to {size} by area or bicubic, signed, float32; mirrored or not",
    )
    if distributed.any_rank(not Path(path).exists()):
        write_codes(path, images, encode, made=made, size=stage.teacher.codebook.size)
    cache = CodeCache(path, made)
    agreed = cache.verify(images, encode)
    stage.cache = cache
    return agreed

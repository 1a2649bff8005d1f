"""Stage 3 without the teacher's encoder: target codes from a file, made once and checked at the start of every run."""

from pathlib import Path

import torch

from codeprior import distributed
from codeprior.training import CodeCache, Made, Source, weights_sha256, write_codes

from .restoration_stage import RestorationStage


def use_cached_codes(stage: RestorationStage, path: str | Path, images: Source) -> float:
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

    network = stage.recipe.network
    made = Made(
        encoder=weights_sha256(stage.teacher.get_submodule("encoder")),
        codebook=weights_sha256(stage.teacher.get_submodule("codebook")),
        images=images.fingerprint,
        preprocessing=f"8-bit levels, resized to {network.size} by area or bicubic, signed, float32; mirrored or not",
    )
    if distributed.any_rank(not Path(path).exists()):
        write_codes(path, images, encode, made=made, size=network.codes)
    cache = CodeCache(path, made)
    agreed = cache.verify(images, encode)
    stage.cache = cache
    return agreed

"""What a stage is worth on faces that it does not train on: figures in the middle of a run, and the score to choose by.

The faces, their damage and the measures are the same at each call. Identity is dlib's; it chooses a checkpoint and is
never a loss.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from codeprior.evaluation.validation import FixedFaces
from codeprior.images import to_signed, to_unit
from codeprior.shapes import Image
from codeprior.stages.pairs import Faces, Measured
from codeprior.training import Batch, open_images


class Measurable(Protocol):
    """A stage that can be measured: it says what of it, and gives its answer to signed faces `b 3 H W`."""

    recipe: Any
    faces: Faces
    measured: Measured

    def answer(self, image: Image) -> Image:
        """Gives restored or reconstructed faces, signed."""
        ...


class Validation:
    """Measures a stage on held-out faces.

    Args:
        stage: What is trained.
        folders: Of square faces that training does not see.
        limit: At most so many faces, from the first.

    Raises:
        ValueError: The folders hold no faces, or the stage has nothing to measure.
        FileNotFoundError: The weights of a measure are not on this machine; the text says which package has them.
    """

    def __init__(self, stage: Measurable, folders: Sequence[str | Path], *, limit: int = 100):
        images = open_images(folders, size=stage.recipe.degradation_size, cached=False)
        count = min(limit, len(images))
        parts: list[tuple[Tensor, Tensor]] = []
        for start in range(0, count, 10):
            numbers = torch.arange(start, min(start + 10, count))
            clean = torch.stack([images.image(number) for number in numbers.tolist()])
            # keys that no training sample has: those are drawn from 63 bits
            batch = Batch(clean, numbers + 1, numbers, torch.zeros(len(numbers), dtype=torch.bool))
            pair = stage.faces(batch)
            parts.append((to_unit(pair.clean).cpu(), to_unit(pair.degraded).cpu()))
        clean, degraded = (torch.cat(side) for side in zip(*parts, strict=True))
        self._stage = stage
        if stage.measured == "restored":
            self._faces = FixedFaces(clean, degraded)
        else:
            self._faces = FixedFaces(degraded if stage.measured == "degraded" else clean)

    def __call__(self) -> dict[str, float]:
        """Gives PSNR, SSIM, perceptual distance, identity and the `score`, lower is better.

        For reconstructions the score is the perceptual distance + 10 · (1 − SSIM); for restored faces it is identity +
        0.1 · perceptual distance.
        """
        found = self._faces.restored(self._answer)
        if self._stage.measured == "restored":
            return found | {"score": found["identity"] + 0.1 * found["perceptual"]}
        return found | {"score": found["perceptual"] + 10 * (1 - found["ssim"])}

    def _answer(self, image: Image) -> Image:
        return to_unit(self._stage.answer(to_signed(image).to(self._stage.faces.device)))

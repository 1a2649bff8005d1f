"""What a stage is worth on faces that it does not train on: figures in the middle of a run, and the score to choose by.

The faces, their damage and the measures are the same at each call. Identity is dlib's; it chooses a checkpoint and is
never a loss.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from codeprior import to_signed, to_unit
from codeprior.evaluation.validation import FixedFaces
from codeprior.shapes import Image
from codeprior.training import Batch, open_images

from .association_stage import AssociationStage
from .codebook_stage import CodebookStage
from .fidelity_stage import FidelityStage
from .restoration_stage import RestorationStage

Stage = CodebookStage | AssociationStage | RestorationStage | FidelityStage


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

    def __init__(self, stage: Stage, folders: Sequence[str | Path], *, limit: int = 100):
        recipe = stage.recipe
        images = open_images(folders, size=recipe.degradation_size, cached=False)
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
        if isinstance(stage, (RestorationStage, FidelityStage)):
            self._faces = FixedFaces(clean, degraded)
        else:
            self._faces = FixedFaces(degraded if isinstance(stage, CodebookStage) else clean)

    def __call__(self) -> dict[str, float]:
        """Gives PSNR, SSIM, perceptual distance, identity and the `score`, lower is better.

        For codebooks the score is the perceptual distance + 10 · (1 − SSIM) of reconstructions; for restorers it is
        identity + 0.1 · perceptual distance of restored faces.
        """
        found = self._faces.restored(self._answer)
        if isinstance(self._stage, (RestorationStage, FidelityStage)):
            return found | {"score": found["identity"] + 0.1 * found["perceptual"]}
        return found | {"score": found["perceptual"] + 10 * (1 - found["ssim"])}

    def _answer(self, image: Image) -> Image:
        stage = self._stage
        signed = to_signed(image).to(stage.faces.device)
        if isinstance(stage, (RestorationStage, FidelityStage)):
            return to_unit(stage.restore(signed))
        objective = stage.hq_objective if isinstance(stage, AssociationStage) else stage.objective
        return to_unit(objective.reconstruct(signed))

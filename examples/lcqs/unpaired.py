"""Clean and degraded faces of different people: what both stages of LCQS see, and the measure of a start."""

from typing import NamedTuple

import torch
from torch import Tensor

from codeprior.shapes import Image
from codeprior.stages import Faces
from codeprior.training import Batch, Source, Stream

from .settings import EncoderSettings, ShiftSettings


class Sides(NamedTuple):
    """Faces of a step; none of one side belongs to one of the other.

    Attributes:
        high: Clean ones, `b 3 S S`, signed.
        low: Degraded ones, `b 3 S S`, signed.
    """

    high: Image
    low: Image


class Unpaired:
    """Gives the two sides of each step: clean faces from the run's own stream, degraded ones from a second stream.

    Args:
        settings: With degradation and sizes.
        low: Pictures of the low side. The settings' degradation is applied to them; None takes them as they are.
        device: Where the faces are wanted.

    Raises:
        ValueError: The low side gives another number of faces a step than the settings say.
    """

    def __init__(self, settings: EncoderSettings | ShiftSettings, low: Stream, *, device: torch.device | str = "cpu"):
        if low.batch != settings.batch:
            raise ValueError(
                f"LCQS: expected as many degraded faces a step as clean ones, {settings.batch}, got {low.batch}; give "
                "both streams the settings' batch."
            )
        self.low = low
        self.faces = Faces.of(settings, size=settings.network.size, device=device)

    def __call__(self, batch: Batch, step: int) -> Sides:
        """Gives the sides of a step.

        Args:
            batch: This rank's clean faces.
            step: Number of the update; this rank's degraded faces follow from it.
        """
        device = self.faces.device
        return Sides(self.faces.clean(batch.to(device).clean), self.faces.degraded(self.low.at(step).to(device)))

    def first(self, high: Source, count: int, *, at_once: int = 16) -> list[Sides]:
        """Gives the first faces of both sides, not mirrored, each with the damage of its number.

        Args:
            high: Clean faces.
            count: How many of each side, at most.
            at_once: Faces in an entry of the answer, at most.
        """
        count = min(count, len(high), len(self.low.source))
        parts = [torch.arange(start, min(start + at_once, count)) for start in range(0, count, at_once)]
        return [
            Sides(self.faces.clean(_batch(high, part).to(self.faces.device).clean), self.faces.degraded(
                _batch(self.low.source, part).to(self.faces.device)))
            for part in parts
        ]  # fmt: skip


def _batch(source: Source, numbers: Tensor) -> Batch:
    images = torch.stack([source.image(number) for number in numbers.tolist()])
    return Batch(images, numbers + 1, numbers, torch.zeros(len(numbers), dtype=torch.bool))

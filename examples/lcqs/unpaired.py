"""Clean and degraded faces of different people: what both stages of LCQS see, and what the stages share."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from codeprior.losses import style_loss
from codeprior.shapes import Image
from codeprior.stages import Faces
from codeprior.training import Batch, Engine, Source, Stream, TorchEngine, WeightAverage

from .model import LCQS
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


class UnpairedStage:
    """What both stages have: their settings, both sides of a step, and the average of the weights.

    Args:
        settings: The configuration.
        low: Pictures of the low side, as many a step as the settings say.
        perceptual: Distance of two signed images; for a term of texture, a `PerceptualLoss`.
        terms: Names of all terms that the stage has.
        device: Where to train; an engine's own device goes before it.
        engine: What distributes; one process without it.

    Raises:
        ValueError: The low side has another batch, a weight has no term, or the batch is to be worked on in parts.
    """

    measured = "restored"
    model: LCQS
    average: WeightAverage[LCQS]

    def __init__(
        self,
        settings: EncoderSettings | ShiftSettings,
        *,
        low: Stream,
        perceptual: nn.Module,
        terms: tuple[str, ...],
        device: torch.device | str = "cpu",
        engine: Engine | None = None,
    ):
        _check_settings(settings, terms)
        self.recipe: Any = settings
        self.engine = engine or TorchEngine(device)
        self.unpaired = Unpaired(settings, low, device=self.engine.device)
        self.perceptual: Any = perceptual.to(self.engine.device)

    @property
    def faces(self) -> Faces:
        """What turns pictures into faces for the network."""
        return self.unpaired.faces

    @property
    def result(self) -> LCQS:
        """The model that is handed on: the average of the weights where there is one."""
        return self.average.module

    def compared(self, image: Image, truth: Image, *, plain: str, perceptual: str, texture: str) -> dict[str, Tensor]:
        """Gives the terms between images and truths that the settings weigh; the network of features runs once.

        Args:
            image: Made images, signed.
            truth: What they should be.
            plain: Name of the mean absolute difference.
            perceptual: Name of the distance of features, place by place.
            texture: Name of the distance of their Gram matrices, which do not know the places.
        """
        weighed, terms = self.recipe.weights, {}
        if plain in weighed:
            terms[plain] = (image - truth).abs().mean()
        if texture in weighed:
            made, wanted = self.perceptual.features(image), self.perceptual.features(truth)
            terms[texture] = style_loss(made, wanted)
            if perceptual in weighed:
                terms[perceptual] = self.perceptual.compare(made, wanted).mean()
        elif perceptual in weighed:
            terms[perceptual] = self.perceptual(image, truth)
        return terms


def _check_settings(settings: Any, terms: tuple[str, ...]) -> None:
    """Refuses settings that a stage cannot follow.

    Args:
        settings: The configuration.
        terms: Names of all terms that the stage has.

    Raises:
        ValueError: A weight has no term, there is no weight, or the batch is to be worked on in parts.
    """
    if not settings.weights or (unknown := [name for name in settings.weights if name not in terms]):
        raise ValueError(
            f"LCQS: expected weights of {', '.join(terms)}, got {', '.join(unknown) if settings.weights else 'none'}."
        )
    if settings.accumulate != 1:
        raise ValueError("LCQS: its stages work on a batch at once; set accumulate=1 and take more ranks instead.")


def _batch(source: Source, numbers: Tensor) -> Batch:
    images = torch.stack([source.image(number) for number in numbers.tolist()])
    return Batch(images, numbers + 1, numbers, torch.zeros(len(numbers), dtype=torch.bool))

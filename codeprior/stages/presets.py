"""Changes of whole settings, which a training command takes as `--preset`."""

from dataclasses import replace
from typing import Any, TypeVar

from codeprior.stages.settings import StageSettings

Settings = TypeVar("Settings", bound=StageSettings)


def as_released(settings: Settings) -> Settings:
    """Gives the settings as the released codes compute them.

    Whatever can be a rank's own is, and each optimiser's forward is run anew. The same batch on another number of ranks
    is then another computation.

    Args:
        settings: Of any stage; a stage without a discriminator or negatives stays as it is.
    """
    return _with(settings, adaptive="local", discriminator_norm="batch", generator_pass="sequential", negatives="local")


def invariant(settings: Settings) -> Settings:
    """Gives the settings for which only the batch counts, not how it is shared: 1 × 32 = 8 × 4 to rounding.

    The adaptive weight is one over all ranks, so are the negatives, and the discriminator normalises each sample.

    Args:
        settings: Of any stage; a stage without a discriminator or negatives stays as it is.
    """
    return _with(settings, adaptive="global", discriminator_norm="group", generator_pass="shared", negatives="global")


def _with(settings: Settings, **wanted: Any) -> Settings:
    return replace(settings, **{name: value for name, value in wanted.items() if hasattr(settings, name)})

"""What the settings of every stage hold: its pairs, how long it learns and how fast; and those of a VQGAN.

A recipe derives from these and adds what is its own. A field that is a share of the steps keeps its meaning when the
number of steps changes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from codeprior.discriminators import DiscriminatorNorm

Degradation = str | Mapping[str, float]
"""A preset, or the share of samples of each of several; `"clean"` damages nothing."""

MIXED: Mapping[str, float] = MappingProxyType(
    {"daefr": 0.55, "lcqs-mild": 0.12, "lcqs-moderate": 0.12, "lcqs-severe": 0.12, "clean": 0.09}
)
"""Mostly DAEFR's range, with milder damage and some faces that nothing is the matter with: what small restorers see."""


def loss_weights(**weights: float) -> Mapping[str, float]:
    """Gives loss weights by the names under which the losses are logged; the mapping cannot be changed.

    Args:
        **weights: By name.
    """
    return MappingProxyType(weights)


@dataclass(frozen=True, kw_only=True, slots=True)
class StageSettings:
    """What every stage shares: what it sees, and how long and how fast it learns."""

    degradation: Degradation | None = None  # None: clean images
    degradation_size: int = 512  # pixels; images are degraded at this size, then resized to the network's
    batch: int = 32  # over all ranks
    accumulate: int = 1  # parts in which a rank works on its share of a batch, one after the other
    steps: int = 100_000
    learning_rate: float = 1.44e-4
    betas: tuple[float, float] = (0.5, 0.9)
    warmup: int = 0  # steps in which the rate rises to its value
    decay: Literal["linear", "cosine"] = "linear"  # how the rate falls
    decay_from: float = 1.0  # share of the steps after which the rate falls
    decay_to: float = 0.0  # share of the rate that is left when it has fallen
    halved_at: tuple[float, ...] = ()  # shares of the steps after each of which the rate is halved
    clip: float | None = None  # largest norm of the gradients of a step
    average: float | None = None  # share that the average of the weights keeps at a step; its weights are handed on
    seed: int = 23


@dataclass(frozen=True, kw_only=True, slots=True)
class AdversarialSettings(StageSettings):
    """Pictures are made and compared with the truth, and from some step on a discriminator judges them."""

    weights: Mapping[str, float] = field(
        default_factory=lambda: loss_weights(l1=1.0, perceptual=1.0, adversarial=0.8, codebook=1.0)
    )
    adversarial_start: int = 30_001  # step
    adversarial_from: float | None = None  # share of the steps, in place of `adversarial_start`
    adaptive_limit: float = 1e4  # largest adaptive weight
    perceptual: str = "vgg16"
    discriminator_channels: int = 64
    discriminator_layers: int = 3
    discriminator_norm: DiscriminatorNorm = "batch"

    @property
    def first_adversarial(self) -> int:
        """The step from which the adversarial term counts."""
        if self.adversarial_from is None:
            return self.adversarial_start
        return round(self.adversarial_from * self.steps)


@dataclass(frozen=True, kw_only=True, slots=True)
class VQGANSettings(AdversarialSettings):
    """A VQGAN that gives its image back, fools a discriminator and keeps to its codes; the defaults are DAEFR's."""

    steps: int = 700_000
    perceptual_from: float = 0.0  # share of the steps after which the perceptual distance counts
    codes_from: float = 0.0  # share of the steps after which latents are exchanged for codes, which k-means starts
    revive_below: float = 0.0  # of the mean use; codes that a gradient moves are set to vectors of the batch below it
    revive_every: int = 200  # steps over which their use is counted before they are
    commitment_term: float = 1.0  # moves the encoder
    codebook_term: float = 0.25  # moves the codes
    discriminator_rest: float = 0.0  # the discriminator learns nothing while the mean of its loss is below this
    adaptive: Literal["local", "global"] = "local"
    generator_pass: Literal["shared", "sequential"] = "shared"  # one forward for all optimisers, or one for each
    crop: int | None = None  # pixels; training on windows of this side
    crop_until: float = 1.0  # share of the steps after which whole images are used
    whole_batch: int | None = None  # of each batch's samples, how many are used once images are whole; None: all

    @property
    def first_coded(self) -> int:
        """The step from which latents are exchanged for codes."""
        return round(self.codes_from * self.steps)

    @property
    def first_perceptual(self) -> int:
        """The step from which the perceptual distance counts."""
        return round(self.perceptual_from * self.steps)


@dataclass(frozen=True, kw_only=True, slots=True)
class CodeSettings(StageSettings):
    """Codes are predicted from degraded images: cross-entropy of the codes, and a distance of the features.

    The defaults are DAEFR's third stage; CodeFormer's second is `weights=loss_weights(code=0.5, feature=1.0)` with a
    rate of 1e-4 and an average of 0.995.
    """

    degradation: Degradation | None = "daefr"
    weights: Mapping[str, float] = field(default_factory=lambda: loss_weights(code=1.0, feature=10.0))


@dataclass(frozen=True, kw_only=True, slots=True)
class FidelitySettings(StageSettings):
    """Taps between an encoder and a decoder learn how far the degraded image may change the answer.

    The decoder is frozen, or learns with them. Then a share of each batch is restored by the codes alone, so that the
    decoder goes on serving them as well.

    `weights` may also name `parts` and `parts_perceptual`: pyramid and chroma, and the perceptual distance, of eyes and
    mouth alone, enlarged (`codeprior.losses.crop_parts`); the faces must be aligned then. `hatch` keeps patterns of two
    pixels away (`codeprior.losses.hatch_loss`).
    """

    steps: int = 20_000
    learning_rate: float = 2e-4
    betas: tuple[float, float] = (0.9, 0.99)
    warmup: int = 500
    decay: Literal["linear", "cosine"] = "cosine"
    decay_from: float = 0.0
    clip: float | None = 1.0
    average: float | None = 0.999
    weights: Mapping[str, float] = field(default_factory=lambda: loss_weights(pyramid=1.0, chroma=0.5, perceptual=0.1))
    perceptual: str = "vgg16"
    decoder: Literal["frozen", "trained"] = "frozen"
    codes_alone: float = 0.0  # share of each batch that is restored without taps


def rate_at(settings: StageSettings, step: int) -> float:
    """Gives the learning rate of a step: it rises in `warmup` steps, stays, and falls from `decay_from` on.

    It falls by a straight line, or as half a cosine where the settings say so, to `decay_to` of itself. It is halved
    after each share of `halved_at` as well.

    Args:
        settings: Of a stage.
        step: Number of the update, from 0.
    """
    done = step / settings.steps
    rate = settings.learning_rate * min(1.0, (step + 1) / (settings.warmup + 1))
    rate *= 0.5 ** sum(done >= share for share in settings.halved_at)
    if done <= settings.decay_from or settings.decay_from >= 1:
        return rate
    left = max(0.0, (1 - done) / (1 - settings.decay_from))
    fallen = left if settings.decay == "linear" else 0.5 - 0.5 * math.cos(math.pi * left)
    return rate * (settings.decay_to + (1 - settings.decay_to) * fallen)

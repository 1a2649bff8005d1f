"""Every number of LCQS's two stages, as functions that return a whole configuration.

The source is a set of slides that names parts and few numbers; which of these are its, and which ours, the README says.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

from codeprior.stages import Degradation, StageSettings, loss_weights

SEVERITIES: Mapping[str, float] = MappingProxyType({"lcqs-mild": 1.0, "lcqs-moderate": 1.0, "lcqs-severe": 1.0})
"""The three severities, drawn equally often."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """Sizes of every network; the defaults are for 256 px, the source's resolution."""

    size: int = 256  # pixels, side of the images
    dim: int = 512  # width of a style
    multiplier: int = 2  # of the generator's channels from 64 px on
    narrow: float = 1.0  # share of the generator's channels that are kept
    backbone: str = "resnet34"  # of both encoders, a name of timm
    stride: int = 32  # of the backbone's features
    cells: int = 4  # features are averaged to so many cells a side
    space: Literal["w", "w+"] = "w"  # one shift for all slots, or one for each
    hidden: int = 64  # width of the shift's hidden layer
    discriminator_narrow: float = 1.0
    discriminator_group: int | None = 4  # samples that a discriminator compares with each other


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderSettings(StageSettings):
    """The first stage: encoders give styles of which the generator makes the same face again."""

    network: Network = field(default_factory=Network)
    degradation: Degradation | None = field(default_factory=lambda: SEVERITIES)  # of the low side; None: as it is
    degradation_size: int = 256
    weights: Mapping[str, float] = field(default_factory=lambda: loss_weights(l1=1.0, perceptual=0.8))
    generator_rate: float = 0.1  # times the rate; 0 leaves the generator as it is
    shared: bool = False  # one encoder learns from both sides, and both branches go on from it
    perceptual: str = "vgg16"
    low: str = ""  # fingerprint of the low side's pictures, which the training command fills in


@dataclass(frozen=True, kw_only=True, slots=True)
class ShiftSettings(StageSettings):
    """The second stage: the shift between the qualities, both ways, by cycles and discriminators."""

    network: Network = field(default_factory=Network)
    degradation: Degradation | None = field(default_factory=lambda: SEVERITIES)
    degradation_size: int = 256
    weights: Mapping[str, float] = field(
        default_factory=lambda: loss_weights(
            adversarial=0.1,
            cycle=10.0,
            cycle_perceptual=0.8,
            rebuilt=1.0,
            rebuilt_perceptual=0.8,
            latent=1.0,
            damage=1.0,
        )
    )
    shift_rate: float = 10.0  # times the rate
    discriminator_rate: float = 1.0
    high_rate: float = 0.0  # of the encoder of clean faces; 0 leaves it as the first stage did
    generator_rate: float = 0.0
    r1: float = 10.0  # weight of the penalty; it is halved, as in StyleGAN2
    r1_every: int = 16  # steps
    start_faces: int = 2048  # of each side, whose mean styles the shift begins from; 0: it begins at zero
    perceptual: str = "vgg16"
    low: str = ""  # fingerprint of the low side's pictures, which the training command fills in


def encoders() -> EncoderSettings:
    r"""The first stage at 256 px, from a trained StyleGAN2 of faces.

    `torchrun --nproc-per-node=4 -m codeprior.recipes.lcqs.train encoders --faces FFHQ --low CELEBA \
        --out runs/encoders --prior prior.safetensors --perceptual-weights vgg16.pth`

    The slides count 500 passes of an unnamed number of faces; 200,000 steps is our choice.
    """
    return EncoderSettings(batch=8, steps=200_000, learning_rate=1e-4, betas=(0.0, 0.99), average=0.999)


def shift() -> ShiftSettings:
    r"""The second stage at 256 px.

    `torchrun --nproc-per-node=4 -m codeprior.recipes.lcqs.train shift --faces FFHQ --low CELEBA --out runs/shift \
        --encoders runs/encoders --perceptual-weights vgg16.pth`
    """
    return ShiftSettings(batch=8, steps=100_000, learning_rate=1e-4, betas=(0.0, 0.99), average=0.999)


def small_network() -> Network:
    """Networks for 64 px and one CPU core."""
    return replace(
        Network(), size=64, dim=128, multiplier=1, narrow=3 / 32, backbone="resnet10t", stride=16,
        space="w+", discriminator_narrow=1 / 16, discriminator_group=1,
    )  # fmt: skip


def encoders_small() -> EncoderSettings:
    """The first stage at 64 px without a prior: the generator learns with one encoder of both sides."""
    return replace(
        encoders(), network=small_network(), batch=8, steps=1_500, learning_rate=2e-3, betas=(0.9, 0.99), warmup=50,
        decay="cosine", decay_from=0.3, average=0.99, generator_rate=1.0, shared=True, perceptual="mobilenet_v2",
        weights=loss_weights(l1=1.0, perceptual=0.15, texture=1000.0),
    )  # fmt: skip


def shift_small() -> ShiftSettings:
    """The second stage at 64 px."""
    return replace(
        shift(), network=small_network(), batch=4, steps=600, learning_rate=3e-4, average=0.98, warmup=20,
        decay="cosine", decay_from=0.3, start_faces=640, perceptual="mobilenet_v2",
        weights=loss_weights(
            adversarial=0.3, cycle=5.0, cycle_perceptual=0.3, cycle_texture=500.0, rebuilt=2.0, rebuilt_perceptual=0.3,
            rebuilt_texture=1000.0, latent=1.0, damage=0.5,
        ),
    )  # fmt: skip


SETTINGS: Mapping[str, Callable[[], Any]] = MappingProxyType(
    {function.__name__: function for function in (encoders, shift, encoders_small, shift_small)}
)
"""Every configuration by the name that the command line takes."""

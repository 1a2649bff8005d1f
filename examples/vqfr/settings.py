"""Every number of the second VQFR's two stages, as functions that return a whole configuration.

The numbers are those of the published options of version 2; the small variants are derived from them. Source: Gu et al.
2022 and TencentARC/VQFR@239c77a.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

from codeprior.discriminators import DiscriminatorNorm
from codeprior.stages import MIXED, AdversarialSettings, VQGANSettings, loss_weights


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """Sizes of every network; the defaults are those of version 2, at 512 px."""

    size: int = 512  # pixels, side of the images
    dim: int = 256  # code dimension
    codes: int = 1024
    channels: int = 64  # of the finest level
    multipliers: tuple[int, ...] = (1, 2, 2, 4, 4, 8)
    blocks: int = 2  # residual blocks a level, of encoder and decoder alike
    attention: tuple[int, ...] = (-1,)
    groups: int = 32
    unshuffle: int = 1  # side of the squares of pixels that the first convolution sees as channels
    condition_channels: int = 32  # that the branch reads from the picture
    deformable_groups: int = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class PriorSettings(VQGANSettings):
    """The first stage: an auto-encoder of clean faces."""

    network: Network = field(default_factory=Network)
    codebook: Literal["gradient", "moving_average"] = "gradient"  # how the codes learn


@dataclass(frozen=True, kw_only=True, slots=True)
class RestorationSettings(AdversarialSettings):
    """The second stage: encoder and predictor learn codes, the branch learns pictures, each at its own rate."""

    network: Network = field(default_factory=Network)
    weights: Mapping[str, float] = field(
        default_factory=lambda: loss_weights(l1=1.0, perceptual=1.0, feature=1.0, code=1.0, adversarial=0.5, whole=1.0)
    )  # adversarial: of patches, times the adaptive weight; whole: of the whole face, left out where it is not named
    branch_rate: float = 0.2  # times the rate, of the branch and the discriminator
    branch_betas: tuple[float, float] = (0.5, 0.9)
    adversarial_start: int = 5_000  # step
    discriminator_layers: int = 4
    r1_weight: float = 10.0  # half of it counts, for the discriminator of the whole face
    r1_every: int = 16  # steps
    whole_narrow: float = 1.0  # share of its channels that are kept
    discriminator_norm: DiscriminatorNorm = "spectral"


def prior() -> PriorSettings:
    """The first stage by the published options: 800,000 steps of 16 clean faces.

    `torchrun --nproc-per-node=8 -m codeprior.recipes.vqfr.train prior --faces FFHQ512 --out runs/prior`

    The published discriminator is that of StyleGAN2 with a softplus loss; ours is the patch discriminator.
    """
    return PriorSettings(
        batch=16, steps=800_000, learning_rate=1e-4, betas=(0.9, 0.96), halved_at=(0.625, 0.8125),
        weights=loss_weights(l1=1.0, perceptual=1.0, adversarial=1.0, codebook=1.0), adversarial_start=50_000,
    )  # fmt: skip


def restoration() -> RestorationSettings:
    """The second stage by the published options of version 2: 200,000 steps of 16 pairs.

    `torchrun --nproc-per-node=8 -m codeprior.recipes.vqfr.train restoration --faces FFHQ512 --out runs/restoration`
    """
    return RestorationSettings(
        degradation="vqfr-v2", batch=16, steps=200_000, learning_rate=1e-4, betas=(0.9, 0.96)
    )  # fmt: skip


def small_network() -> Network:
    """A network for 128 px and one CPU core: 16×16 places of stride 8."""
    return replace(
        Network(), size=128, dim=32, codes=512, channels=32, multipliers=(1, 2, 4), unshuffle=2, blocks=1, attention=(),
        groups=8, condition_channels=8,
    )  # fmt: skip


def prior_small() -> PriorSettings:
    """The first stage at small size: shaped as that of the embedded prior, with one table of codes."""
    return replace(
        prior(), network=small_network(), codebook="moving_average", degradation_size=256, whole_batch=8, steps=2_700,
        learning_rate=1e-3, betas=(0.9, 0.99), halved_at=(), warmup=200, decay="cosine", decay_from=0.0, clip=1.0,
        average=0.999, weights=loss_weights(pyramid=1.0, chroma=0.5, perceptual=0.15, adversarial=0.1, codebook=1.0),
        perceptual_from=0.25, codes_from=0.15, adversarial_from=0.85, discriminator_rest=0.2, perceptual="mobilenet_v2",
        discriminator_channels=32, discriminator_norm="spectral", crop=64, crop_until=0.5,
    )  # fmt: skip


def restoration_small() -> RestorationSettings:
    """The second stage at small size, with the discriminator of patches alone."""
    return replace(
        restoration(), network=small_network(), degradation=MIXED, batch=8, steps=1_500, learning_rate=8e-4,
        branch_rate=1.0, clip=1.0, average=0.99, adversarial_from=0.8, perceptual="mobilenet_v2",
        discriminator_channels=32, discriminator_layers=3,
        weights=loss_weights(l1=1.0, perceptual=1.0, feature=1.0, code=1.0, adversarial=0.5),
    )  # fmt: skip


SETTINGS: Mapping[str, Callable[[], Any]] = MappingProxyType(
    {function.__name__: function for function in (prior, restoration, prior_small, restoration_small)}
)
"""Every configuration by the name that the command line takes."""

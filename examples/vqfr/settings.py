"""Every number of both VQFRs' two stages, as functions that return a whole configuration.

The numbers are those of the published options; the small variants are derived from them. Source: Gu et al. 2022 and
TencentARC/VQFR@239c77a.
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

    version: Literal[1, 2] = 2
    size: int = 512  # pixels, side of the images
    dim: int = 256  # code dimension
    codes: int = 1024
    channels: int = 64  # of the finest level
    multipliers: tuple[int, ...] = (1, 2, 2, 4, 4, 8)
    blocks: int = 2  # residual blocks a level
    decoder_blocks: int = 2
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
    discriminator: Literal["patches", "whole", "wavelets"] = "whole"  # what judges: patches, or the whole face
    r1_weight: float = 10.0  # half of it counts, for a discriminator of the whole face
    r1_every: int = 16  # steps
    whole_narrow: float = 1.0  # share of its channels that are kept
    estimated_every: int = 0  # steps after which k-means finds the codes anew; 0: never
    estimated_until: int = 0  # the last such step


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


@dataclass(frozen=True, kw_only=True, slots=True)
class JointSettings(AdversarialSettings):
    """The second stage of version 1: everything but the codes learns, by the texture picture and by the final one.

    Of both pictures, names that begin with `texture_` mean the first. `adversarial` is of patches, times the adaptive
    weight; `whole` is of the whole face.
    """

    network: Network = field(default_factory=lambda: first_network())
    weights: Mapping[str, float] = field(
        default_factory=lambda: loss_weights(
            texture_l1=1.0, texture_perceptual=1.0, texture_style=2000.0, texture_adversarial=0.5, texture_whole=0.5,
            perceptual=1.0, style=2000.0, adversarial=0.5, whole=0.5, feature=1.0,
        )
    )  # fmt: skip
    adversarial_start: int = 5_000  # step, of the final picture; the texture's discriminators begin at once
    discriminator_norm: DiscriminatorNorm = "spectral"
    r1_weight: float = 10.0  # half of it counts, for the discriminators of the whole face
    r1_every: int = 16  # steps
    whole_narrow: float = 1.0  # share of their channels that are kept


def first_network() -> Network:
    """Gives the sizes of version 1: wider, without attention, and with three blocks a level in the decoder."""
    return Network(version=1, channels=128, multipliers=(1, 1, 2, 2, 2, 4), attention=(), decoder_blocks=3)


def prior() -> PriorSettings:
    """The first stage by the published options: 800,000 steps of 16 clean faces.

    `torchrun --nproc-per-node=8 -m codeprior.recipes.vqfr.train prior --faces FFHQ512 --out runs/prior`
    """
    return PriorSettings(
        batch=16, steps=800_000, learning_rate=1e-4, betas=(0.9, 0.96), halved_at=(0.625, 0.8125),
        weights=loss_weights(l1=1.0, perceptual=1.0, adversarial=1.0, codebook=1.0), adversarial_start=50_000,
    )  # fmt: skip


def prior_v1() -> PriorSettings:
    """The first stage of version 1: as `prior`, judged by wavelets; codes from step 10,000, found anew until 30,000.

    `torchrun --nproc-per-node=8 -m codeprior.recipes.vqfr.train prior_v1 --faces FFHQ512 --out runs/prior_v1`
    """
    return replace(
        prior(), network=first_network(), discriminator="wavelets", codes_from=10_000 / 800_000, estimated_every=2_000,
        estimated_until=30_000,
    )  # fmt: skip


def restoration() -> RestorationSettings:
    """The second stage by the published options of version 2: 200,000 steps of 16 pairs.

    `torchrun --nproc-per-node=8 -m codeprior.recipes.vqfr.train restoration --faces FFHQ512 --out runs/restoration`
    """
    return RestorationSettings(
        degradation="vqfr-v2", batch=16, steps=200_000, learning_rate=1e-4, betas=(0.9, 0.96)
    )  # fmt: skip


def restoration_v1() -> JointSettings:
    """The second stage by the published options of version 1: 200,000 steps of 16 pairs, all at one rate.

    `torchrun --nproc-per-node=8 -m codeprior.recipes.vqfr.train restoration_v1 --faces FFHQ512 --out runs/two`
    """
    return JointSettings(degradation="vqfr-v1", batch=16, steps=200_000, learning_rate=1e-5, betas=(0.5, 0.9))


def small_network() -> Network:
    """A network for 128 px and one CPU core: 16×16 places of stride 8."""
    return replace(
        Network(), size=128, dim=32, codes=512, channels=32, multipliers=(1, 2, 4), unshuffle=2, blocks=1,
        decoder_blocks=1, attention=(), groups=8, condition_channels=8,
    )  # fmt: skip


def prior_small() -> PriorSettings:
    """The first stage at small size: shaped as that of the embedded prior, with one table of codes."""
    return replace(
        prior(), network=small_network(), codebook="moving_average", discriminator="patches", degradation_size=256,
        whole_batch=8, steps=2_700,
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
        weights=loss_weights(l1=1.0, perceptual=1.0, feature=1.0, code=1.0, adversarial=0.5, hatch=4.0),
    )  # fmt: skip


def first_small_network() -> Network:
    """A network of version 1 for 128 px, of the embedded prior's widths, so that this may be the first stage."""
    return replace(
        first_network(), size=128, dim=32, codes=512, channels=32, multipliers=(1, 2, 4), unshuffle=2, blocks=1,
        decoder_blocks=1, groups=8, condition_channels=8,
    )  # fmt: skip


def prior_v1_small() -> PriorSettings:
    """The first stage of version 1 at small size, with a narrow discriminator."""
    return replace(
        prior_v1(), network=first_small_network(), degradation_size=256, steps=2_700, learning_rate=1e-3,
        betas=(0.9, 0.99), halved_at=(), warmup=200, decay="cosine", decay_from=0.0, clip=1.0, average=0.999,
        weights=loss_weights(l1=1.0, perceptual=0.15, adversarial=0.1, codebook=1.0), perceptual="mobilenet_v2",
        codes_from=0.1, estimated_every=100, estimated_until=800, adversarial_from=0.85, whole_narrow=1 / 16,
    )  # fmt: skip


def restoration_v1_small() -> JointSettings:
    """The second stage of version 1 at small size; only the final picture is judged, late."""
    return replace(
        restoration_v1(), network=first_small_network(), degradation=MIXED, batch=8, steps=1_500, learning_rate=5e-4,
        warmup=100, decay="cosine", decay_from=0.0, clip=1.0, average=0.99, adversarial_from=0.8,
        perceptual="mobilenet_v2", discriminator_channels=32, whole_narrow=1 / 16,
        weights=loss_weights(
            texture_l1=1.0, texture_perceptual=0.5, l1=1.0, perceptual=0.5, adversarial=0.05, whole=0.05, feature=1.0,
            texture_hatch=4.0, hatch=4.0,
        ),
    )  # fmt: skip


SETTINGS: Mapping[str, Callable[[], Any]] = MappingProxyType(
    {
        function.__name__: function
        for function in (
            prior,
            restoration,
            prior_small,
            restoration_small,
            prior_v1,
            restoration_v1,
            prior_v1_small,
            restoration_v1_small,
        )
    }
)
"""Every configuration by the name that the command line takes."""

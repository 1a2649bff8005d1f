"""Every number of RestoreFormer's two stages, as functions that return a whole configuration.

The numbers are those of the published configurations; the small variants are derived from them. Source: Wang et al.
2022, wzhouxiff/RestoreFormer@294cf95 and, of RestoreFormer++, the two files that the specification names.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

from codeprior.stages import MIXED, AdversarialSettings, VQGANSettings, loss_weights


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """Sizes of every network; the defaults are the paper's, at 512 px."""

    size: int = 512  # pixels, side of the images
    dim: int = 256  # code dimension
    codes: int = 1024
    channels: int = 64  # of the finest level
    multipliers: tuple[int, ...] = (1, 2, 2, 4, 4, 8)
    encoder_blocks: int = 2
    decoder_blocks: int = 3
    attention: tuple[int, ...] = (-1,)
    decoder_attention: tuple[int, ...] = (-1,)  # where degraded faces ask
    heads: int = 8
    groups: int = 32
    unshuffle: int = 1  # side of the squares of pixels that the first convolution sees as channels


@dataclass(frozen=True, kw_only=True, slots=True)
class DictionarySettings(VQGANSettings):
    """The first stage: an auto-encoder of clean faces, whose codes become the dictionary."""

    network: Network = field(default_factory=Network)
    codebook: Literal["gradient", "moving_average"] = "gradient"  # how the codes learn


@dataclass(frozen=True, kw_only=True, slots=True)
class RestorationSettings(AdversarialSettings):
    """The second stage: encoder and decoder learn to restore, with the dictionary as it is."""

    network: Network = field(default_factory=Network)
    weights: Mapping[str, float] = field(
        default_factory=lambda: loss_weights(
            l1=1.0,
            perceptual=1.0,
            codebook=1.0,
            style=1e9,
            adversarial=0.8,
            identity=3.0,
            parts_adversarial=1.5,
            parts_style=2000.0,
        )
    )
    attention_rate: float = 10.0  # times the rate, of the decoder's attention
    adversarial_start: int = 10_001  # step; also of the identity term and of those of the parts
    parts_sizes: tuple[int, ...] = (80, 80, 120)  # pixels, sides of the crops of eyes and mouth
    parts_channels: int = 64  # of their discriminators
    parts_rate: float = 10.0  # times the rate, of their discriminators
    parts_betas: tuple[float, float] = (0.9, 0.99)


def dictionary() -> DictionarySettings:
    """The first stage by the published configuration: 16 clean faces a step (4 GPUs × 4), at 4.5e-6 for each.

    `torchrun --nproc-per-node=4 -m codeprior.recipes.restoreformer.train dictionary --faces FFHQ512 --out runs/first`

    The configuration counts its milestones in epochs, so its rate is in effect constant, and it does not say how long
    it was trained; 400,000 steps is ours, the first of its milestones.
    """
    return DictionarySettings(batch=16, steps=400_000, learning_rate=7.2e-5, betas=(0.5, 0.9))


def restoration() -> RestorationSettings:
    r"""The second stage by the published configuration: 16 pairs a step; its length is ours, as above.

    `torchrun --nproc-per-node=4 -m codeprior.recipes.restoreformer.train restoration --faces FFHQ512 --out runs/two \
        --dictionary runs/first`
    """
    return RestorationSettings(
        degradation="restoreformer", batch=16, steps=400_000, learning_rate=7.2e-5, betas=(0.5, 0.9)
    )  # fmt: skip


def restoration_plus() -> RestorationSettings:
    """The second stage of RestoreFormer++: four heads, attention at half the deepest resolution too, no style terms.

    Its configuration gives four weights of components, 1, 1, 1 and 0; we read them as those of the three discriminators
    and of their style term.
    """
    gone = ("style", "parts_style")
    weights = {name: weight for name, weight in restoration().weights.items() if name not in gone}
    network = replace(Network(), heads=4, decoder_attention=(-2, -1))
    return replace(
        restoration(), network=network, degradation="restoreformer++",
        weights=loss_weights(**(weights | {"identity": 1.0, "parts_adversarial": 1.0})),
    )  # fmt: skip


def small_network() -> Network:
    """A network for 128 px and one CPU core: 16×16 places of stride 8."""
    return replace(
        Network(), size=128, dim=32, codes=512, channels=32, multipliers=(1, 2, 4), unshuffle=2, encoder_blocks=1,
        decoder_blocks=2, attention=(), heads=4, groups=8,
    )  # fmt: skip


def dictionary_small() -> DictionarySettings:
    """The first stage at small size: shaped as that of the embedded prior, with one table of codes."""
    return replace(
        dictionary(), network=small_network(), codebook="moving_average", degradation_size=256, batch=16, whole_batch=8,
        steps=2_700, learning_rate=1e-3, betas=(0.9, 0.99), warmup=200, decay="cosine", decay_from=0.0, clip=1.0,
        average=0.999, weights=loss_weights(pyramid=1.0, chroma=0.5, perceptual=0.15, adversarial=0.1, codebook=1.0),
        perceptual_from=0.25, codes_from=0.15, adversarial_from=0.85, discriminator_rest=0.2, perceptual="mobilenet_v2",
        discriminator_channels=32, discriminator_norm="spectral", crop=64, crop_until=0.5,
    )  # fmt: skip


def restoration_small() -> RestorationSettings:
    """The second stage at small size: without the terms whose networks no package ships, and a late discriminator."""
    return replace(
        restoration(), network=small_network(), degradation=MIXED, batch=8, steps=2_000, learning_rate=5e-4,
        betas=(0.9, 0.99), warmup=100, decay="cosine", decay_from=0.0, clip=1.0, average=0.999, attention_rate=2.0,
        adversarial_from=0.8, weights=loss_weights(l1=1.0, perceptual=0.5, codebook=1.0, adversarial=0.1, hatch=4.0),
        perceptual="mobilenet_v2", discriminator_channels=32, discriminator_norm="group",
    )  # fmt: skip


def restoration_parts_small() -> RestorationSettings:
    """The second stage at small size, with discriminators of eyes and mouth, for aligned faces."""
    small = restoration_small()
    return replace(
        small, parts_sizes=(20, 20, 32), parts_channels=16, parts_rate=1.0,
        weights=loss_weights(**small.weights, parts_adversarial=0.1, parts_style=200.0),
    )  # fmt: skip


SETTINGS: Mapping[str, Callable[[], Any]] = MappingProxyType(
    {
        function.__name__: function
        for function in (
            dictionary,
            restoration,
            restoration_plus,
            dictionary_small,
            restoration_small,
            restoration_parts_small,
        )
    }
)
"""Every configuration by the name that the command line takes."""

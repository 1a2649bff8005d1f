"""Every number of CodeFormer's three stages, as functions that return a whole configuration.

The numbers are those of the published options; the small variants are derived from them. Source: Zhou et al. 2022 and
sczhou/CodeFormer@b33cc7d, options of stages 1 to 3.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from codeprior.stages import MIXED, AdversarialSettings, CodeSettings, Degradation, VQGANSettings, loss_weights

Task = Literal["restoration", "inpainting", "colourisation"]
"""What the weights were trained for; it decides AdaIN and the fidelity that is right unless another is chosen."""


class Phase(NamedTuple):
    """What a step of the third stage does.

    Attributes:
        damage: Which of the two degradations its faces get.
        fidelity: The taps' weight, the paper's `w`; None where only codes are learned and no picture is made.
    """

    damage: Literal["mild", "severe"]
    fidelity: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """Sizes of every network; the defaults are the paper's, at 512 px."""

    size: int = 512  # pixels, side of the images
    dim: int = 256  # code dimension
    codes: int = 1024
    channels: int = 64  # of the finest level
    multipliers: tuple[int, ...] = (1, 2, 2, 4, 4, 8)
    blocks: int = 2  # residual blocks a level, of encoder and decoder alike
    attention: tuple[int, ...] = (-1,)
    groups: int = 32
    unshuffle: int = 1  # side of the squares of pixels that the first convolution sees as channels
    width: int = 512  # of the code predictor's tokens
    layers: int = 9
    heads: int = 8
    hidden: int = 1024
    tap_strides: tuple[int, ...] = (16, 8, 4, 2)  # where the picture may change the decoder, coarse to fine

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of codes."""
        side = self.size // (self.unshuffle * 2 ** (len(self.multipliers) - 1))
        return side, side


@dataclass(frozen=True, kw_only=True, slots=True)
class PriorSettings(VQGANSettings):
    """Stage I: an auto-encoder that gives clean faces back."""

    network: Network = field(default_factory=Network)
    codebook: Literal["gradient", "moving_average"] = "gradient"  # how the codes learn


@dataclass(frozen=True, kw_only=True, slots=True)
class CodesSettings(CodeSettings):
    """Stage II: the transformer learns which clean codes stand behind a degraded face."""

    network: Network = field(default_factory=Network)
    task: Task = "restoration"  # what the weights are for; they say so


@dataclass(frozen=True, kw_only=True, slots=True)
class FidelitySettings(AdversarialSettings):
    """Stage III: the taps learn to follow the picture, while encoder and transformer go on learning codes."""

    network: Network = field(default_factory=Network)
    task: Task = "restoration"  # what the weights are for; they say so
    mild: Degradation = "codeformer-III-small"  # degradation of the steps that make pictures
    severe: Degradation = "codeformer-III-large"  # degradation of the steps that learn codes only
    weights: Mapping[str, float] = field(
        default_factory=lambda: loss_weights(feature=1.0, code=0.5, l1=1.0, perceptual=1.0, adversarial=0.1)
    )
    adversarial_start: int = 5_001  # step
    adaptive_limit: float = 1.0  # largest adaptive weight
    gentle_until: float = 40 / 150  # share of the steps up to which the taps count once, on mild damage
    strong_until: float = 80 / 150  # share up to which they count `strong_fidelity` times, on mild damage
    codes_until: float = 120 / 150  # share up to which only codes are learned, on severe damage
    strong_every: int = 15  # of the steps after that, every so many goes back to the taps
    strong_fidelity: float = 1.3
    discriminator_layers: int = 4

    def phase(self, step: int) -> Phase:
        """Gives what a step does."""
        gentle, strong, codes = (
            round(share * self.steps) for share in (self.gentle_until, self.strong_until, self.codes_until)
        )
        if step <= gentle:
            return Phase("mild", 1.0)
        if step <= strong:
            return Phase("mild", self.strong_fidelity)
        if step > codes and step % self.strong_every == 0:
            return Phase("mild", self.strong_fidelity)
        return Phase("severe", None)


def prior() -> PriorSettings:
    """Stage I by the published options: 1,600,000 steps of 32 clean faces.

    `torchrun --nproc-per-node=8 -m codeprior.recipes.codeformer.train prior --faces FFHQ512 --out runs/prior`
    """
    return PriorSettings(
        steps=1_600_000, learning_rate=7e-5, betas=(0.9, 0.99), decay="cosine", decay_from=0.0, decay_to=6 / 7,
        average=0.995, adaptive_limit=1.0, discriminator_layers=4,
    )  # fmt: skip


def codes() -> CodesSettings:
    """Stage II by the published options: 500,000 steps of 32 pairs.

    `torchrun --nproc-per-node=8 -m codeprior.recipes.codeformer.train codes --faces FFHQ512 --out runs/codes`
    """
    return CodesSettings(
        degradation="codeformer-II", steps=500_000, learning_rate=1e-4, betas=(0.9, 0.99), halved_at=(0.8, 0.9),
        average=0.995, weights=loss_weights(feature=1.0, code=0.5),
    )  # fmt: skip


def fidelity() -> FidelitySettings:
    """Stage III by the published options: 150,000 steps of 24 pairs.

    `torchrun --nproc-per-node=8 -m codeprior.recipes.codeformer.train fidelity --faces FFHQ512 --out runs/fidelity`
    """
    return FidelitySettings(
        batch=24, steps=150_000, learning_rate=5e-5, betas=(0.9, 0.99), decay="cosine", decay_from=0.0, decay_to=0.4,
        average=0.997,
    )  # fmt: skip


def colourisation() -> CodesSettings:
    r"""Stage II for colourisation: faces lose their colours, or get others; all else is as published for stage II.

    `torchrun --nproc-per-node=8 -m codeprior.recipes.codeformer.train colourisation --faces FFHQ512 \
        --out runs/colourisation`
    """
    return replace(codes(), degradation="codeformer-colourisation", task="colourisation")


def inpainting() -> FidelitySettings:
    r"""Stage III for inpainting by the published options: 300,000 steps of 12 faces with holes, pictures at every step.

    `torchrun --nproc-per-node=4 -m codeprior.recipes.codeformer.train inpainting --faces FFHQ512 \
        --out runs/inpainting --prior PRIOR --codes CODES`

    The published network has 512 codes, so both earlier stages are its own.
    """
    return replace(
        fidelity(), network=replace(Network(), codes=512, tap_strides=(16, 8, 4)), task="inpainting",
        mild="codeformer-inpainting", severe="codeformer-inpainting", gentle_until=1.0, strong_until=1.0,
        codes_until=1.0, batch=12, steps=300_000, learning_rate=7e-5, decay="linear", decay_from=1.0, decay_to=0.0,
        halved_at=(250 / 300, 1.0), adversarial_start=296_001,
    )  # fmt: skip


def small_network() -> Network:
    """A network for 128 px and one CPU core: 16×16 places of stride 8."""
    return replace(
        Network(), size=128, dim=32, codes=512, channels=32, multipliers=(1, 2, 4), unshuffle=2, blocks=1, attention=(),
        groups=8, width=256, layers=3, hidden=512, tap_strides=(8, 4, 2),
    )  # fmt: skip


def prior_small() -> PriorSettings:
    """Stage I at small size: shaped as that of the embedded prior, with one table of codes."""
    return replace(
        prior(), network=small_network(), codebook="moving_average", degradation_size=256, batch=16, whole_batch=8,
        steps=2_700, learning_rate=1e-3, warmup=200, decay_to=0.0, clip=1.0, average=0.999,
        weights=loss_weights(pyramid=1.0, chroma=0.5, perceptual=0.15, adversarial=0.1, codebook=1.0),
        perceptual_from=0.25, codes_from=0.15, adversarial_from=0.85, discriminator_rest=0.2, perceptual="mobilenet_v2",
        discriminator_channels=32, discriminator_layers=3, discriminator_norm="spectral", crop=64, crop_until=0.5,
    )  # fmt: skip


def codes_small() -> CodesSettings:
    """Stage II at small size."""
    return replace(
        codes(), network=small_network(), degradation=MIXED, batch=8, steps=2_000, learning_rate=8e-4, clip=1.0,
        average=0.99,
    )  # fmt: skip


def fidelity_small() -> FidelitySettings:
    """Stage III at small size: the published shares of its phases, a discriminator that begins later."""
    return replace(
        fidelity(), network=small_network(), mild=MIXED, severe="daefr", batch=8, steps=900, learning_rate=5e-4,
        clip=1.0, average=0.99, adversarial_from=0.4, perceptual="mobilenet_v2", discriminator_channels=32,
        discriminator_layers=3, discriminator_norm="group",
        weights=loss_weights(feature=1.0, code=0.5, l1=1.0, perceptual=1.0, adversarial=0.1, hatch=4.0),
    )  # fmt: skip


SETTINGS: Mapping[str, Callable[[], Any]] = MappingProxyType(
    {
        function.__name__: function
        for function in (
            prior,
            codes,
            fidelity,
            colourisation,
            inpainting,
            prior_small,
            codes_small,
            fidelity_small,
        )
    }
)
"""Every configuration by the name that the command line takes."""

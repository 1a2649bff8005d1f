"""Every number of DAEFR's four stages, as functions that return a whole configuration.

Where the paper and the released code differ there are two functions; the small variants are derived from the paper's,
so that they cannot drift. Source: Tsai et al. 2024 (DAEFR, ICLR), experiment setup, and the released configurations.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, TypeVar


def _weights(**weights: float) -> Mapping[str, float]:
    return MappingProxyType(weights)


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """Sizes of every network of the recipe; the defaults are the paper's, at 512 px."""

    size: int = 512  # pixels, side of the images
    dim: int = 256  # code dimension
    codes: int = 1024
    channels: int = 64  # of the finest level
    multipliers: tuple[int, ...] = (1, 2, 2, 4, 4, 8)
    encoder_blocks: int = 2
    decoder_blocks: int = 3
    attention: tuple[int, ...] = (-1,)
    groups: int = 32
    fusion_groups: int = 32
    fusion_heads: int = 8
    codebook: Literal["gradient", "moving_average"] = "gradient"
    width: int = 512  # of the code predictor's tokens
    layers: int = 9
    heads: int = 8
    hidden: int = 1024

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of codes."""
        side = self.size // 2 ** (len(self.multipliers) - 1)
        return side, side


@dataclass(frozen=True, kw_only=True, slots=True)
class CodebookRecipe:
    """Stages 1a and 1b: a VQGAN that gives its image back; stage 1b sees degraded images."""

    network: Network = field(default_factory=Network)
    degradation: str | None = None  # preset; None: clean images
    degradation_size: int = 512  # pixels; images are degraded at this size, then resized to the network's
    batch: int = 32  # over all ranks
    accumulate: int = 1  # parts in which a rank works on its share of a batch, one after the other
    steps: int = 700_000
    learning_rate: float = 1.44e-4
    betas: tuple[float, float] = (0.5, 0.9)
    decay_from: float = 1.0  # share of the steps after which the rate falls linearly to zero
    weights: Mapping[str, float] = field(
        default_factory=lambda: _weights(l1=1.0, perceptual=1.0, adversarial=0.8, codebook=1.0)
    )
    commitment_term: float = 1.0  # moves the encoder
    codebook_term: float = 0.25  # moves the codes
    adversarial_start: int = 30_001  # step
    adaptive: Literal["local", "global"] = "local"
    generator_pass: Literal["shared", "sequential"] = "shared"  # one forward for all optimisers, or one for each
    perceptual: str = "vgg16"
    discriminator_channels: int = 64
    discriminator_layers: int = 3
    discriminator_norm: Literal["batch", "sync", "group", "none"] = "batch"
    crop: int | None = None  # pixels; training on windows of this side
    crop_until: float = 1.0  # share of the steps after which whole images are used
    seed: int = 23


@dataclass(frozen=True, kw_only=True, slots=True)
class AssociationRecipe(CodebookRecipe):
    """Stage 2: both VQGANs go on learning, and their encoders learn to agree about paired images."""

    temperature: float = 0.07  # similarities are divided by it; it never moves
    negatives: Literal["local", "global"] = "local"


@dataclass(frozen=True, kw_only=True, slots=True)
class RestorationRecipe:
    """Stage 3: fusion and code prediction; the prior and the target encoder stay as stage 1a left them."""

    network: Network = field(default_factory=Network)
    degradation: str = "daefr"
    degradation_size: int = 512
    batch: int = 32
    accumulate: int = 1  # parts in which a rank works on its share of a batch, one after the other
    steps: int = 100_000
    learning_rate: float = 1.44e-4
    betas: tuple[float, float] = (0.5, 0.9)
    decay_from: float = 1.0
    weights: Mapping[str, float] = field(default_factory=lambda: _weights(code=1.0, feature=10.0))
    branches: Literal["dual", "single"] = "dual"  # single: the HQ encoder alone, no fusion
    fusion: Literal["attention", "linear"] = "attention"
    seed: int = 23


Recipe = TypeVar("Recipe", CodebookRecipe, AssociationRecipe, RestorationRecipe)


def hq_codebook() -> CodebookRecipe:
    """Stage 1a by the paper: 700,000 steps of 32 clean faces.

    `torchrun --nproc-per-node=8 -m examples.daefr.train hq_codebook --faces FFHQ512 --out runs/hq`
    """
    return CodebookRecipe()


def lq_codebook() -> CodebookRecipe:
    """Stage 1b by the paper: 400,000 steps; one degradation setting for every stage."""
    return replace(hq_codebook(), degradation="daefr", steps=400_000)


def association() -> AssociationRecipe:
    """Stage 2 by the paper: 70,000 steps; the released code starts the discriminators at step 11."""
    return AssociationRecipe(
        degradation="daefr", steps=70_000, adversarial_start=11,
        weights=_weights(l1=1.0, perceptual=1.0, adversarial=0.8, codebook=1.0, association=1.0),
    )  # fmt: skip


def restoration() -> RestorationRecipe:
    """Stage 3 by the paper: 100,000 steps of cross-entropy + 10 · feature loss."""
    return RestorationRecipe()


def hq_codebook_released() -> CodebookRecipe:
    """Stage 1a as the released scripts run it: 4 GPUs × 3 images, 330 epochs of FFHQ, a forward for each optimiser."""
    return replace(hq_codebook(), batch=12, learning_rate=5.4e-5, steps=1_925_220, generator_pass="sequential")


def lq_codebook_released() -> CodebookRecipe:
    """Stage 1b as released: 250 epochs, the narrow degradation."""
    return replace(hq_codebook_released(), degradation="daefr-codebook-lq", steps=1_458_500)


def association_released() -> AssociationRecipe:
    """Stage 2 as released: 4 GPUs × 2 images, 50 epochs, the narrow degradation."""
    return replace(
        association(), batch=8, learning_rate=3.6e-5, steps=437_500, degradation="daefr-association",
        generator_pass="sequential",
    )  # fmt: skip


def restoration_released() -> RestorationRecipe:
    """Stage 3 as released: 4 GPUs × 2 images, 100 epochs."""
    return replace(restoration(), batch=8, learning_rate=3.6e-5, steps=875_000)


def small_network() -> Network:
    """The network of the embedded prior: 128 px, 16×16 codes of stride 8, about 7 million parameters at inference."""
    return replace(
        Network(), size=128, dim=32, codes=512, channels=16, multipliers=(1, 2, 4, 8), encoder_blocks=1,
        decoder_blocks=2, attention=(), groups=16, fusion_groups=8, fusion_heads=4, codebook="moving_average",
        width=256, layers=4, hidden=512,
    )  # fmt: skip


def hq_codebook_small() -> CodebookRecipe:
    """Stage 1a of the embedded prior, sized for one CPU core and an hour.

    `python -m examples.daefr.train hq_codebook_small --faces FACES --out runs/hq --perceptual-weights FILE`

    Unlike the paper's: moving-average codes with revival, MobileNetV2 for VGG-16, windows of 64 px for most of the
    steps, a rate that falls to zero, and a smaller discriminator that starts at 60 % of the steps.
    """
    return replace(
        hq_codebook(), network=small_network(), batch=4, steps=5400, learning_rate=5e-4, decay_from=0.6,
        weights=_weights(l1=3.0, perceptual=0.15, adversarial=0.2, codebook=1.0), adversarial_start=3800,
        perceptual="mobilenet_v2", discriminator_channels=32, crop=64, crop_until=0.97,
    )  # fmt: skip


def lq_codebook_small() -> CodebookRecipe:
    """Stage 1b of the embedded prior: as 1a, on degraded faces, with the wide range of stage 3."""
    return replace(
        hq_codebook_small(),
        degradation="daefr",
        steps=2000,
        decay_from=0.5,
        adversarial_start=2_000_000,
        crop_until=0.95,
    )


def association_small() -> AssociationRecipe:
    """Stage 2 of the embedded prior."""
    small = hq_codebook_small()
    return replace(
        association(), network=small.network, batch=4, steps=500, learning_rate=3e-4, decay_from=0.5,
        weights=_weights(l1=3.0, perceptual=0.15, adversarial=0.2, codebook=1.0, association=1.0),
        adversarial_start=2_000_000, perceptual=small.perceptual,
        discriminator_channels=small.discriminator_channels, crop=64, crop_until=0.95,
    )  # fmt: skip


def restoration_small() -> RestorationRecipe:
    """Stage 3 of the embedded prior."""
    return replace(
        restoration(), network=small_network(), batch=8, steps=2000, learning_rate=8e-4, betas=(0.9, 0.98),
        decay_from=0.5,
    )  # fmt: skip


def single_encoder_small() -> RestorationRecipe:
    """The baseline without the LQ branch: stage 3 of the embedded prior on the HQ encoder alone."""
    return replace(restoration_small(), branches="single")


def paper(recipe: Recipe) -> Recipe:
    """Gives the recipe as the released code computes it: whatever can be a rank's own is, and each optimiser's forward
    is run anew. The same batch on another number of ranks is then another computation.
    """
    if isinstance(recipe, RestorationRecipe):
        return recipe
    local = replace(recipe, adaptive="local", discriminator_norm="batch", generator_pass="sequential")
    return replace(local, negatives="local") if isinstance(local, AssociationRecipe) else local


def invariant(recipe: Recipe) -> Recipe:
    """Gives the recipe for which only the batch counts, not how it is shared: 1 × 32 = 8 × 4 to rounding.

    The adaptive weight is one over all ranks, so are the negatives, and the discriminator normalises each sample.
    """
    if isinstance(recipe, RestorationRecipe):
        return recipe
    everywhere = replace(recipe, adaptive="global", discriminator_norm="group", generator_pass="shared")
    return replace(everywhere, negatives="global") if isinstance(everywhere, AssociationRecipe) else everywhere


PRESETS: Mapping[str, Callable[[Any], Any]] = MappingProxyType({"paper": paper, "invariant": invariant})
"""What `--preset` takes; without one a recipe is run as it is written."""

RECIPES = MappingProxyType(
    {
        function.__name__: function
        for function in (
            hq_codebook, lq_codebook, association, restoration,
            hq_codebook_released, lq_codebook_released, association_released, restoration_released,
            hq_codebook_small, lq_codebook_small, association_small, restoration_small, single_encoder_small,
        )
    }
)  # fmt: skip
"""Every configuration by the name that the command line takes."""

"""Every number of DAEFR's four stages, as functions that return a whole configuration.

Where the paper and the released code differ there are two functions; the small variants are derived from the paper's,
so that they cannot drift. Source: Tsai et al. 2024 (DAEFR, ICLR), experiment setup, and the released configurations.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

from codeprior.stages import MIXED, CodeSettings, Degradation, FidelitySettings, VQGANSettings, invariant, loss_weights
from codeprior.stages import as_released as paper


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
    unshuffle: int = 1  # side of the squares of pixels that the first convolution sees as channels
    codebook: Literal["gradient", "moving_average"] = "gradient"
    tables: int = 1  # residual tables of codes, one after the other
    revive_below: float = 0.05  # of the mean use; moving-average codes below it are set to a vector of the batch
    width: int = 512  # of the code predictor's tokens
    layers: int = 9
    heads: int = 8
    hidden: int = 1024
    tap_channels: int = 128  # inside each fidelity tap

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of codes."""
        side = self.size // (self.unshuffle * 2 ** (len(self.multipliers) - 1))
        return side, side


@dataclass(frozen=True, kw_only=True, slots=True)
class CodebookRecipe(VQGANSettings):
    """Stages 1a and 1b: a VQGAN that gives its image back; stage 1b sees degraded images."""

    network: Network = field(default_factory=Network)
    begins: Literal["fresh", "hq"] = "fresh"  # hq: with the weights of stage 1a


@dataclass(frozen=True, kw_only=True, slots=True)
class AssociationRecipe(CodebookRecipe):
    """Stage 2: both VQGANs go on learning, and their encoders learn to agree about paired images."""

    temperature: float = 0.07  # similarities are divided by it; it never moves
    negatives: Literal["local", "global"] = "local"


@dataclass(frozen=True, kw_only=True, slots=True)
class RestorationRecipe(CodeSettings):
    """Stage 3: fusion and code prediction; the prior and the target encoder stay as stage 1a left them."""

    network: Network = field(default_factory=Network)
    branches: Literal["dual", "single"] = "dual"  # single: the HQ encoder alone, no fusion
    fusion: Literal["attention", "linear"] = "attention"
    decoding: Literal["argmax", "expectation"] = "argmax"  # what the decoder is given when a face is restored


@dataclass(frozen=True, kw_only=True, slots=True)
class FidelityRecipe(FidelitySettings):
    """Stage 3b: taps between the encoder and the frozen decoder of the restorer of stage 3; 3c: both learn.

    Not in the paper.
    """

    network: Network = field(default_factory=Network)
    degradation: Degradation | None = field(default_factory=lambda: MIXED)
    tap_encoder: Literal["shared", "own"] = "shared"  # own: a copy of the HQ encoder that learns with the taps


def hq_codebook() -> CodebookRecipe:
    """Stage 1a by the paper: 700,000 steps of 32 clean faces.

    `torchrun --nproc-per-node=8 -m codeprior.recipes.daefr.train hq_codebook --faces FFHQ512 --out runs/hq`
    """
    return CodebookRecipe()


def lq_codebook() -> CodebookRecipe:
    """Stage 1b by the paper: 400,000 steps; one degradation setting for every stage."""
    return replace(hq_codebook(), degradation="daefr", steps=400_000)


def association() -> AssociationRecipe:
    """Stage 2 by the paper: 70,000 steps; the released code starts the discriminators at step 11."""
    return AssociationRecipe(
        degradation="daefr", steps=70_000, adversarial_start=11,
        weights=loss_weights(l1=1.0, perceptual=1.0, adversarial=0.8, codebook=1.0, association=1.0),
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
    """The network of the embedded prior: 128 px, 16×16 places of stride 8 with two residual codes each."""
    return replace(
        Network(), size=128, dim=32, codes=512, tables=2, channels=32, multipliers=(1, 2, 4), unshuffle=2,
        encoder_blocks=1, decoder_blocks=2, attention=(), groups=8, fusion_groups=8, fusion_heads=4,
        codebook="moving_average", width=256, layers=3, hidden=512,
        tap_channels=32,
    )  # fmt: skip


def hq_codebook_small() -> CodebookRecipe:
    """Stage 1a of the embedded prior, sized for one CPU core and an hour.

    `python -m codeprior.recipes.daefr.train hq_codebook_small --faces FACES --out runs/hq_codebook_small`

    Unlike the paper's: two residual tables of moving-average codes that k-means starts after a first part without
    codes, MobileNetV2 for VGG-16, pyramid and chroma losses for L1, windows of 64 px at first, a rate that warms up and
    falls as a cosine, averaged weights, and a small discriminator with spectral norm at the end.
    """
    return replace(
        hq_codebook(), network=small_network(), degradation_size=256, batch=16, whole_batch=8, steps=2700,
        learning_rate=1e-3, betas=(0.9, 0.99), warmup=200, decay="cosine", decay_from=0.0, clip=1.0, average=0.999,
        weights=loss_weights(pyramid=1.0, chroma=0.5, perceptual=0.15, adversarial=0.1, codebook=1.0),
        perceptual_from=0.25, codes_from=0.15, adversarial_from=0.85, discriminator_rest=0.2, perceptual="mobilenet_v2",
        discriminator_channels=32, discriminator_norm="spectral", crop=64, crop_until=0.5,
    )  # fmt: skip


def lq_codebook_small() -> CodebookRecipe:
    """Stage 1b of the embedded prior: goes on from stage 1a, on degraded faces, with the wide range of stage 3."""
    return replace(
        hq_codebook_small(), begins="hq", degradation="daefr", degradation_size=512, steps=900, learning_rate=5e-4,
        codes_from=0.0, perceptual_from=0.0, adversarial_from=2.0, crop_until=0.5,
    )  # fmt: skip


def association_small() -> AssociationRecipe:
    """Stage 2 of the embedded prior: short, with a small association weight that leaves the latents whole."""
    small = lq_codebook_small()
    return replace(
        association(), network=small.network, batch=8, whole_batch=8, steps=160, learning_rate=2e-4,
        betas=small.betas, warmup=50, decay="cosine", decay_from=0.0, clip=1.0, average=0.99,
        weights=loss_weights(pyramid=1.0, chroma=0.5, perceptual=0.15, adversarial=0.1, codebook=1.0, association=0.1),
        adversarial_from=2.0, perceptual=small.perceptual, discriminator_channels=32, discriminator_norm="spectral",
    )  # fmt: skip


def restoration_small() -> RestorationRecipe:
    """Stage 3 of the embedded prior; milder damage is mixed in, and faces are decoded from the expectation of codes."""
    return replace(
        restoration(), network=small_network(), degradation=MIXED, batch=8, steps=2400, learning_rate=8e-4,
        betas=(0.9, 0.98), warmup=100, decay="cosine", decay_from=0.0, clip=1.0, average=0.999, decoding="expectation",
    )  # fmt: skip


def single_encoder_small() -> RestorationRecipe:
    """The baseline without the LQ branch: stage 3 of the embedded prior on the HQ encoder alone."""
    return replace(restoration_small(), branches="single")


def fidelity() -> FidelityRecipe:
    """Stage 3b at full size: 20,000 steps of 32 pairs on the restorer of stage 3."""
    return FidelityRecipe()


def fidelity_small() -> FidelityRecipe:
    """Stage 3b of the embedded prior."""
    return replace(
        fidelity(), network=small_network(), batch=8, steps=900, learning_rate=1e-3, warmup=50, average=0.995,
        tap_encoder="own", perceptual="mobilenet_v2",
        weights=loss_weights(pyramid=1.0, chroma=0.5, perceptual=0.1, hatch=4.0, parts=1.0, parts_perceptual=0.05),
    )  # fmt: skip


def decoder() -> FidelityRecipe:
    """Stage 3c at full size: 10,000 steps in which the decoder learns with the taps."""
    return _with_decoder(fidelity(), steps=10_000)


def decoder_small() -> FidelityRecipe:
    """Stage 3c of the embedded prior; a decoder that learns can follow a heavier perceptual term."""
    return replace(
        _with_decoder(fidelity_small(), steps=2_400), average=0.998,
        weights=loss_weights(pyramid=1.0, chroma=0.5, perceptual=0.16, hatch=4.0, parts=1.0, parts_perceptual=0.08),
    )  # fmt: skip


def _with_decoder(recipe: FidelityRecipe, *, steps: int) -> FidelityRecipe:
    """Gives stage 3c of a stage 3b: the decoder learns as well, and one face in eight is restored by codes alone."""
    return replace(recipe, steps=steps, learning_rate=recipe.learning_rate * 0.6, decoder="trained", codes_alone=0.125)


def medium_network() -> Network:
    """The small network on faces of 256 px: 32×32 places of two residual codes each."""
    return replace(small_network(), size=256)


def hq_codebook_medium() -> CodebookRecipe:
    """Stage 1a at 256 px; `--start` with the small one's VQGAN saves most of it: its weights fit faces of any size."""
    return replace(hq_codebook_small(), network=medium_network(), crop=128)


def lq_codebook_medium() -> CodebookRecipe:
    """Stage 1b at 256 px."""
    return replace(lq_codebook_small(), network=medium_network(), crop=128)


def association_medium() -> AssociationRecipe:
    """Stage 2 at 256 px."""
    return replace(association_small(), network=medium_network())


def restoration_medium() -> RestorationRecipe:
    """Stage 3 at 256 px."""
    return replace(restoration_small(), network=medium_network())


def fidelity_medium() -> FidelityRecipe:
    """Stage 3b at 256 px."""
    return replace(fidelity_small(), network=medium_network())


def decoder_medium() -> FidelityRecipe:
    """Stage 3c at 256 px."""
    return replace(decoder_small(), network=medium_network())


SMALL = (
    "hq_codebook_small", "lq_codebook_small", "association_small", "restoration_small", "fidelity_small",
    "decoder_small",
)  # fmt: skip
"""The stages of the embedded prior, in their order."""

MEDIUM = tuple(name.replace("small", "medium") for name in SMALL)
"""Those of the one for 256 px."""

PRESETS: Mapping[str, Callable[[Any], Any]] = MappingProxyType({"paper": paper, "invariant": invariant})
"""What `--preset` takes; without one a recipe is run as it is written."""

RECIPES = MappingProxyType(
    {
        function.__name__: function
        for function in (
            hq_codebook, lq_codebook, association, restoration, fidelity, decoder,
            hq_codebook_released, lq_codebook_released, association_released, restoration_released,
            hq_codebook_small, lq_codebook_small, association_small, restoration_small, fidelity_small,
            decoder_small, single_encoder_small,
            hq_codebook_medium, lq_codebook_medium, association_medium, restoration_medium, fidelity_medium,
            decoder_medium,
        )
    }
)  # fmt: skip
"""Every configuration by the name that the command line takes."""

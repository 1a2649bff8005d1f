"""Every number of GPEN's two stages, as functions that return a whole configuration.

Where the paper and the released code differ there are two functions; the small variants are derived from the paper's.
Source: Yang et al. 2021 (GPEN), yangxy/GPEN@2c73670, and what the authors said in its issues.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from codeprior.layers import Injection
from codeprior.stages import AdversarySettings, loss_weights

Recipe = TypeVar("Recipe", bound="PriorSettings | FineTuningSettings")


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """Sizes of all three networks; the defaults are those of the published model at 512 px."""

    size: int = 512  # pixels, side of the images that come out
    input_size: int | None = None  # pixels, side of those that go in; None: the same
    dim: int = 512  # of a latent and of a style
    layers: int = 8  # of the mapping network
    multiplier: int = 2  # widens features from a resolution of 64 on
    narrow: float = 1.0  # share of the channels
    noise: Injection = "concatenated"  # what the decoder does with the encoder's features


@dataclass(frozen=True, kw_only=True, slots=True)
class PriorSettings(AdversarySettings):
    """The first stage: a StyleGAN2 of clean faces, whose noise is concatenated."""

    network: Network = field(default_factory=Network)
    mixing: float = 0.9  # share of the samples whose styles are of two latents


@dataclass(frozen=True, kw_only=True, slots=True)
class FineTuningSettings(AdversarySettings):
    """The second stage: an encoder before the prior, and pairs."""

    network: Network = field(default_factory=Network)
    begins: Literal["prior", "fresh"] = "prior"
    prior_stays: bool = False  # whether the prior is not trained any more
    content: Literal["l1", "smooth_l1"] = "l1"
    weights: Mapping[str, float] = field(
        default_factory=lambda: loss_weights(adversarial=1.0, content=1.0, features=0.02)
    )
    encoder_rate: float = 1.0  # times the rate, which is that of the decoder
    grey: float = 0.0  # share of the pairs that are grey on both sides


def prior() -> PriorSettings:
    """The first stage: 32 clean faces a step with StyleGAN2's settings, which is all that the paper says of it.

    `torchrun --nproc-per-node=8 -m codeprior.recipes.gpen.train prior --faces FFHQ512 --out runs/prior`

    Its length, 25 million images, is StyleGAN2's.
    """
    return PriorSettings(batch=32, steps=781_250, learning_rate=2e-3 * 4 / 5)


def finetuning() -> FineTuningSettings:
    r"""The second stage by the paper: three rates for encoder, decoder and discriminator, one pair a step.

    `python -m codeprior.recipes.gpen.train finetuning --faces FFHQ512 --out runs/finetuning --prior runs/prior`

    The paper says nothing of R1, path length and averages, so there are none. Its length is not stated; 1,000,000
    steps is ours. The rates are what its readers and its author quote in the issues.
    """
    return FineTuningSettings(
        degradation="gpen-paper", batch=1, steps=1_000_000, learning_rate=2e-4, encoder_rate=10.0,
        discriminator_rate=0.1, betas=(0.0, 0.99), discriminator_betas=(0.0, 0.99), r1_every=0, path_every=0,
        average=None,
    )  # fmt: skip


def finetuning_code() -> FineTuningSettings:
    """The released training: one stage from fresh weights, with an identity term and without feature matching.

    `torchrun --nproc-per-node=2 -m codeprior.recipes.gpen.train finetuning_code --faces FFHQ512 --out runs/code`
    """
    return FineTuningSettings(
        degradation="gpen-code", batch=4, steps=4_000_000, learning_rate=2e-3 * 4 / 5, begins="fresh",
        content="smooth_l1", weights=loss_weights(adversarial=1.0, content=1.0, identity=1.0), grey=0.2,
    )  # fmt: skip


def without_finetuning(recipe: Recipe) -> Recipe:
    """The paper's first ablation: the embedded prior stays as it was.

    Raises:
        ValueError: They are settings of the first stage.
    """
    if not isinstance(recipe, FineTuningSettings):
        raise ValueError("without-finetuning: the first stage trains the prior; give it to a fine-tuning.")
    return replace(recipe, prior_stays=True)


def without_noise(recipe: Recipe) -> Recipe:
    """The paper's second ablation: the decoder gets the styles alone."""
    return replace(recipe, network=replace(recipe.network, noise="none"))


def noise_added(recipe: Recipe) -> Recipe:
    """The paper's third ablation: the encoder's features are added, as StyleGAN2 adds its noise."""
    return replace(recipe, network=replace(recipe.network, noise="added"))


def small_network() -> Network:
    """A network for 64 px and one CPU core."""
    return replace(Network(), size=64, dim=128, layers=4, multiplier=1, narrow=1 / 16)


def prior_small() -> PriorSettings:
    """The first stage at small size: 8 faces a step, in a few core-minutes."""
    return replace(
        prior(), network=small_network(), degradation_size=64, batch=8, steps=2_400, learning_rate=2.5e-3,
        path_every=0, average=0.995,
    )  # fmt: skip


def finetuning_small() -> FineTuningSettings:
    """The second stage at small size: higher rates than the paper's, which fall at the end, and R1, for so few steps.

    The encoder's features reach the decoder through the weights of the noise, single numbers that begin near zero and
    can grow by about the rate at a step.

    Faces are degraded at 256 px by DAEFR's range: of what the paper's leaves, up to 200 times smaller, nothing is to be
    seen at 64 px, and the released code's hardly harms a face of 64 px.
    """
    return replace(
        finetuning(), network=small_network(), degradation="daefr", degradation_size=256, batch=8, steps=1_000,
        learning_rate=4e-3, encoder_rate=2.0, discriminator_rate=0.5, r1_every=16, average=0.99, decay="cosine",
        decay_from=0.4,
    )  # fmt: skip


SETTINGS: Mapping[str, Callable[[], Any]] = MappingProxyType(
    {function.__name__: function for function in (prior, finetuning, finetuning_code, prior_small, finetuning_small)}
)
"""Every configuration by the name that the command line takes."""

VARIANTS: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {
        "without-finetuning": without_finetuning,
        "without-noise": without_noise,
        "noise-added": noise_added,
    }
)
"""The paper's ablations, as changes of any configuration."""

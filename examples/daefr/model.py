"""DAEFR, written as a user of the library would write it: two encoders see the degraded face, one prior restores it."""

from typing import Self, cast

from torch import nn

from codeprior.codebooks import Codebook, MovingAverageCodebook, Quantizer, ResidualCodebook
from codeprior.decoders import VQGANDecoder
from codeprior.encoders import VQGANEncoder
from codeprior.fusion import CrossAttentionFusion, FidelityTaps, LinearFusion
from codeprior.layers import Recorder, configured
from codeprior.predictors import CodePredictor
from codeprior.prior import VQGAN, CodePrior
from codeprior.restorers import CodeRestorer, Decoding, Prediction
from codeprior.shapes import Image, ManyIndices

from .settings import Network, RestorationRecipe


@configured
class DAEFR(CodeRestorer):
    """The Dual Associated Encoder: HQ and LQ encoder both see the degraded face; the LQ latent asks the HQ latent.

    Args:
        prior: Codebook and decoder of the HQ stage, frozen.
        hq_encoder: The encoder that learned clean faces (associated in stage 2).
        lq_encoder: The encoder that learned degraded faces.
        fusion: Called as `fusion(stream=hq, guide=lq)`.
        predictor: Fused latent to logits.
        taps: What changes the decoder by an encoder's features (stage 3b); None leaves the prior alone.
        tap_encoder: The encoder that the taps read; None: the HQ encoder.
        decoding: What the decoder is given.

    Source: Tsai et al. 2024. The released model also carries three tensors groups that no forward reads; they are left
        out, and the decoder is given the codes themselves rather than `fused + (codes − fused)`. Taps and the
        expectation are ours.
    """

    def __init__(
        self,
        prior: CodePrior,
        hq_encoder: nn.Module,
        lq_encoder: nn.Module,
        fusion: nn.Module,
        predictor: nn.Module,
        *,
        taps: nn.Module | None = None,
        tap_encoder: nn.Module | None = None,
        decoding: Decoding = "argmax",
    ):
        super().__init__()
        self.prior = prior
        self.hq_encoder = hq_encoder
        self.lq_encoder = lq_encoder
        self.fusion = fusion
        self.predictor = cast(CodePredictor, predictor)
        self.taps = cast(FidelityTaps | None, taps)
        self.tap_encoder = tap_encoder
        self.decoding: Decoding = decoding

    def with_taps(
        self, taps: nn.Module, tap_encoder: nn.Module | None = None, *, prior: CodePrior | None = None
    ) -> Self:
        """Gives a model of the same parts, shared, and these taps; see `CodeRestorer.with_taps`."""
        parts = prior or self.prior, self.hq_encoder, self.lq_encoder, self.fusion, self.predictor
        return type(self)(*parts, taps=taps, tap_encoder=tap_encoder, decoding=self.decoding)

    def forward(
        self, degraded: Image, known: ManyIndices | None = None, *, record: Recorder | None = None
    ) -> Prediction:
        """Gives the scores of every code for degraded faces.

        Args:
            degraded: `b 3 H W`, signed.
            known: `b m h w`, the true codes, for training with residual codebooks; see `CodePredictor`.
            record: Keeps the HQ encoder's features, for taps without an encoder of their own.
        """
        stream = self.hq_encoder(degraded) if record is None else self.hq_encoder(degraded, taps=record.taps)
        fused = self.fusion(stream=stream, guide=self.lq_encoder(degraded))
        return Prediction(self.predictor(fused) if known is None else self.predictor(fused, known), fused)


@configured
class SingleEncoder(CodeRestorer):
    """The baseline: one encoder, no fusion, otherwise the same.

    Args:
        prior: Codebook and decoder of the HQ stage, frozen.
        encoder: The encoder that learned clean faces.
        predictor: Latent to logits.
        taps: As in `DAEFR`.
        tap_encoder: The encoder that the taps read; None: the only other one.
        decoding: What the decoder is given.

    Source: the first row of the paper's ablation.
    """

    def __init__(
        self,
        prior: CodePrior,
        encoder: nn.Module,
        predictor: nn.Module,
        *,
        taps: nn.Module | None = None,
        tap_encoder: nn.Module | None = None,
        decoding: Decoding = "argmax",
    ):
        super().__init__()
        self.prior = prior
        self.encoder = encoder
        self.predictor = cast(CodePredictor, predictor)
        self.taps = cast(FidelityTaps | None, taps)
        self.tap_encoder = tap_encoder
        self.decoding: Decoding = decoding

    def with_taps(
        self, taps: nn.Module, tap_encoder: nn.Module | None = None, *, prior: CodePrior | None = None
    ) -> Self:
        """Gives a model of the same parts, shared, and these taps; see `CodeRestorer.with_taps`."""
        parts = prior or self.prior, self.encoder, self.predictor
        return type(self)(*parts, taps=taps, tap_encoder=tap_encoder, decoding=self.decoding)

    def forward(
        self, degraded: Image, known: ManyIndices | None = None, *, record: Recorder | None = None
    ) -> Prediction:
        """Gives the scores of every code for degraded faces; see `DAEFR.forward`."""
        latent = self.encoder(degraded) if record is None else self.encoder(degraded, taps=record.taps)
        return Prediction(self.predictor(latent) if known is None else self.predictor(latent, known), latent)


def vqgan(network: Network) -> VQGAN:
    """Gives a fresh VQGAN of these sizes, for stages 1a and 1b."""
    decoder = VQGANDecoder(
        network.dim, channels=network.channels, multipliers=network.multipliers, blocks=network.decoder_blocks,
        attention=network.attention, groups=network.groups, unshuffle=network.unshuffle,
    )  # fmt: skip
    return VQGAN(encoder(network), codebook(network), decoder)


def codebook(network: Network) -> Quantizer:
    """Gives fresh codes of these sizes: one table, or residual ones."""
    table = (
        Codebook(network.codes, network.dim)
        if network.codebook == "gradient"
        else MovingAverageCodebook(
            network.codes, network.dim, initialise_from_batch=True, revive_below=network.revive_below
        )
    )
    return table if network.tables == 1 else ResidualCodebook(table, stages=network.tables)


def encoder(network: Network) -> VQGANEncoder:
    """Gives a fresh encoder of these sizes."""
    return VQGANEncoder(
        network.dim, channels=network.channels, multipliers=network.multipliers, blocks=network.encoder_blocks,
        attention=network.attention, groups=network.groups, unshuffle=network.unshuffle,
    )  # fmt: skip


def predictor(network: Network) -> CodePredictor:
    """Gives a fresh code predictor of these sizes."""
    return CodePredictor(
        network.dim, network.codes, grid=network.grid, width=network.width, layers=network.layers, heads=network.heads,
        hidden=network.hidden, tables=network.tables,
    )  # fmt: skip


def fidelity_taps(network: Network) -> FidelityTaps:
    """Gives fresh taps between encoder and decoder of these sizes, at every stride of both."""
    strides = [network.unshuffle * 2**level for level in range(len(network.multipliers))]
    widths = [network.channels * multiplier for multiplier in network.multipliers]
    return FidelityTaps(strides, widths, widths, hidden=network.tap_channels, groups=network.groups)


def restorer(recipe: RestorationRecipe, prior: CodePrior) -> DAEFR | SingleEncoder:
    """Gives the model of stage 3 on a prior; its encoders are fresh until earlier stages fill them."""
    network = recipe.network
    if recipe.branches == "single":
        return SingleEncoder(prior, encoder(network), predictor(network), decoding=recipe.decoding)
    fusion = (
        CrossAttentionFusion(network.dim, heads=network.fusion_heads, groups=network.fusion_groups)
        if recipe.fusion == "attention"
        else LinearFusion(network.dim)
    )
    return DAEFR(prior, encoder(network), encoder(network), fusion, predictor(network), decoding=recipe.decoding)

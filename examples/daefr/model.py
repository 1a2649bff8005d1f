"""DAEFR, written as a user of the library would write it: two encoders see the degraded face, one prior restores it."""

from typing import Literal, NamedTuple, Self, cast

import torch
from torch import nn

from codeprior.codebooks import Codebook, MovingAverageCodebook, Quantizer, ResidualCodebook
from codeprior.decoders import VQGANDecoder
from codeprior.encoders import VQGANEncoder
from codeprior.fusion import CrossAttentionFusion, FidelityTaps, LinearFusion
from codeprior.layers import Recorder, configured
from codeprior.predictors import CodePredictor
from codeprior.prior import VQGAN, CodePrior
from codeprior.shapes import Image, Latent, Logits, ManyIndices, ManyLogits

from .settings import Network, RestorationRecipe

Decoding = Literal["argmax", "expectation"]
"""What the decoder is given: the likeliest codes, or the mean of the codes under the predicted shares."""


class Prediction(NamedTuple):
    """What a restorer thinks of a degraded face.

    Attributes:
        logits: `b h w k`, a score for every code; of residual codebooks `b m h w k`.
        fused: `b d h w`, the latent they were read from.
    """

    logits: Logits | ManyLogits
    fused: Latent


class _Restoring(nn.Module):
    """What both models share: from logits, and from the encoder's features where there are taps, to a face."""

    prior: CodePrior
    predictor: CodePredictor
    taps: FidelityTaps | None
    tap_encoder: nn.Module | None
    decoding: Decoding
    scale = 1
    """Side of the answer over the side of what is restored."""

    @property
    def size(self) -> int:
        """Side of the faces that the model takes and gives, pixels."""
        return self.predictor.grid[0] * self.prior.stride

    @property
    def stride(self) -> int:
        """Pixels a grid step of the codes."""
        return self.prior.stride

    def with_taps(self, taps: nn.Module, tap_encoder: nn.Module | None = None) -> Self:
        """Gives a model of the same parts, shared, and these taps, with an encoder of their own where one is given."""
        raise NotImplementedError

    def predict(self, degraded: Image) -> tuple[Prediction, Recorder | None]:
        """Gives the prediction for degraded faces `b 3 H W`, signed, and the features that the taps read, if any."""
        if self.taps is None:
            return self(degraded), None
        recorder = self.taps.recorder()
        if self.tap_encoder is None:
            return self(degraded, record=recorder), recorder
        self.tap_encoder(degraded, taps=recorder.taps)
        return self(degraded), recorder

    @torch.no_grad()
    def restore(self, degraded: Image, *, fidelity: float = 1.0) -> Image:
        """Gives restored faces `b 3 H W`, signed, not clamped, for degraded ones of the same kind.

        Args:
            degraded: `b 3 size size`, signed.
            fidelity: In [0, 1]: 0 is the prior's word, 1 follows the picture as far as the taps have learned to; a
                model without taps has no use for it.

        Raises:
            ValueError: `fidelity` is out of range.
        """
        if not 0 <= fidelity <= 1:
            raise ValueError(f"restore: expected a fidelity in [0, 1], got {fidelity}.")
        prediction, recorder = self.predict(degraded)
        return self.decode(prediction, recorder, fidelity=fidelity)

    def decode(self, prediction: Prediction, recorder: Recorder | None = None, *, fidelity: float = 1.0) -> Image:
        """Gives the faces that a prediction stands for, with gradients to the taps.

        Args:
            prediction: Of degraded faces.
            recorder: That has been through the encoder; needed where there are taps.
            fidelity: The taps' weight, in [0, 1].
        """
        if self.decoding == "expectation":
            values = self.prior.expected(prediction.logits)
        else:
            values = self.prior.lookup(prediction.logits.argmax(-1))
        taps = None if self.taps is None or recorder is None else self.taps(recorder, weight=fidelity)
        return self.prior.decode(values, taps)


@configured
class DAEFR(_Restoring):
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

    def with_taps(self, taps: nn.Module, tap_encoder: nn.Module | None = None) -> Self:
        """Gives a model of the same parts, shared, and these taps, with an encoder of their own where one is given."""
        parts = self.prior, self.hq_encoder, self.lq_encoder, self.fusion, self.predictor
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
class SingleEncoder(_Restoring):
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

    def with_taps(self, taps: nn.Module, tap_encoder: nn.Module | None = None) -> Self:
        """Gives a model of the same parts, shared, and these taps, with an encoder of their own where one is given."""
        parts = self.prior, self.encoder, self.predictor
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

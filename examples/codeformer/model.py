"""CodeFormer: a transformer predicts the codes of the clean face, and a weight says how far the picture is followed."""

from copy import deepcopy
from typing import Any, NamedTuple, Self, cast

import torch
from torch import Tensor, nn

from codeprior.codebooks import Codebook, MovingAverageCodebook
from codeprior.decoders import VQGANDecoder
from codeprior.encoders import VQGANEncoder
from codeprior.fusion import FidelityTaps, adain
from codeprior.layers import Recorder, configured
from codeprior.predictors import CodePredictor
from codeprior.prior import VQGAN, CodePrior
from codeprior.shapes import Image, Latent, Logits, ManyIndices, ManyLogits

from .settings import Network, Task

DEFAULT_FIDELITY = {"restoration": 0.5, "inpainting": 1.0, "colourisation": 0.0}
"""The paper's `w` of each task."""


class Prediction(NamedTuple):
    """What CodeFormer thinks of a degraded face.

    Attributes:
        logits: `b h w k`, a score for every code; on a prior of several tables `b m h w k`.
        latent: `b d h w`, what the encoder gave.
    """

    logits: Logits | ManyLogits
    latent: Latent


@configured
class CodeFormer(nn.Module):
    """One encoder, a transformer that predicts codes, a frozen prior, and taps that change its decoder.

    Args:
        prior: Codebook and decoder of the first stage, frozen.
        encoder: Of the degraded face.
        predictor: Latent to logits.
        taps: What changes the decoder by the encoder's features (third stage); None leaves the prior alone.
        task: What the weights are for. Inpainting does not adapt the codes' statistics (AdaIN), the others do.

    Source: Zhou et al. 2022. Gradients of the picture reach the taps only, as in the paper: codes are chosen, and the
        encoder's features are detached on the way to the taps.
    """

    scale = 1
    """Side of the answer over the side of what is restored."""

    def __init__(
        self,
        prior: CodePrior,
        encoder: nn.Module,
        predictor: nn.Module,
        taps: nn.Module | None = None,
        *,
        task: Task = "restoration",
    ):
        super().__init__()
        self.prior = prior
        self.encoder = encoder
        self.predictor = cast(CodePredictor, predictor)
        self.taps = cast(FidelityTaps | None, taps)
        self.task: Task = task

    @property
    def size(self) -> int:
        """Side of the faces that it was trained on, pixels; with `any_grid` it takes any multiple of its stride."""
        return self.predictor.grid[0] * self.prior.stride

    @property
    def stride(self) -> int:
        """Pixels a grid step of the codes."""
        return self.prior.stride

    def with_taps(self, taps: nn.Module, *, task: Task | None = None) -> Self:
        """Gives a model of the same parts, shared, and these taps, for the same task or another."""
        return type(self)(self.prior, self.encoder, self.predictor, taps, task=task or self.task)

    def forward(
        self, degraded: Image, known: ManyIndices | None = None, *, record: Recorder | None = None
    ) -> Prediction:
        """Gives the scores of every code for degraded faces.

        Args:
            degraded: `b 3 H W`, signed.
            known: `b m h w`, the true codes, for training on a prior of several tables; see `CodePredictor`.
            record: Keeps the encoder's features for the taps.
        """
        latent = self.encoder(degraded) if record is None else self.encoder(degraded, taps=record.taps)
        return Prediction(self.predictor(latent) if known is None else self.predictor(latent, known), latent)

    @torch.no_grad()
    def restore(self, degraded: Image, *, fidelity: float | Tensor | None = None, adapt: bool | None = None) -> Image:
        """Gives restored faces `b 3 H W`, signed, not clamped, for degraded ones of the same kind.

        Args:
            degraded: `b 3 H W`, signed.
            fidelity: The paper's `w`, in [0, 1]: 0 shows the predicted codes alone, 1 follows the picture; a number, or
                a tensor with one for each face. None is that of the task.
            adapt: Whether the codes take over the statistics of the degraded face; None is that of the task.

        Raises:
            ValueError: The number is out of range.
        """
        fidelity = DEFAULT_FIDELITY[self.task] if fidelity is None else fidelity
        if not isinstance(fidelity, Tensor) and not 0 <= fidelity <= 1:
            raise ValueError(f"restore: expected a fidelity in [0, 1], got {fidelity}.")
        unused = self.taps is None or (not isinstance(fidelity, Tensor) and fidelity == 0)
        recorder = None if unused or self.taps is None else self.taps.recorder()
        prediction = self(degraded, record=recorder)
        adapt = self.task != "inpainting" if adapt is None else adapt
        return self.decode(prediction, recorder, fidelity=fidelity, adapt=adapt)

    def decode(
        self,
        prediction: Prediction,
        recorder: Recorder | None = None,
        *,
        fidelity: float | Tensor = 1.0,
        adapt: bool = False,
    ) -> Image:
        """Gives the faces that a prediction stands for, with gradients to the taps.

        Args:
            prediction: Of degraded faces.
            recorder: That has been through the encoder; without one the taps are left out.
            fidelity: The taps' weight; in training the paper also uses 1.3.
            adapt: Whether the codes take over the statistics of the latent.
        """
        codes = self.prior.lookup(prediction.logits.argmax(-1))
        if adapt:
            codes = adain(codes, prediction.latent.detach())
        if self.taps is None or recorder is None:
            return self.prior.decode(codes)
        recorder.features = {place: feature.detach() for place, feature in recorder.features.items()}
        return self.prior.decode(codes, self.taps(recorder, weight=fidelity))


def vqgan(network: Network, *, moving_average: bool = False) -> VQGAN:
    """Gives a fresh auto-encoder of these sizes, for the first stage."""
    table = (
        MovingAverageCodebook(network.codes, network.dim, initialise_from_batch=True)
        if moving_average
        else Codebook(network.codes, network.dim)
    )
    return VQGAN(_encoder(network), table, VQGANDecoder(network.dim, **_pyramid(network)))


def fresh(network: Network, teacher: VQGAN, *, task: Task = "restoration") -> CodeFormer:
    """Gives the model of the second stage: prior and encoder are the teacher's, the predictor is drawn.

    Args:
        network: Sizes of the predictor, and of the images.
        teacher: The auto-encoder of the first stage, with one table of codes or residual ones.
        task: What the weights will be for.
    """
    prior, encoder = teacher.prior(), deepcopy(cast(nn.Module, teacher.encoder)).requires_grad_(True)
    predictor = CodePredictor(
        prior.dim, prior.size, grid=network.grid, width=network.width, layers=network.layers, heads=network.heads,
        hidden=network.hidden, tables=prior.tables, any_grid=True,
    )  # fmt: skip
    return CodeFormer(prior, encoder, predictor, task=task)


def fresh_taps(network: Network) -> FidelityTaps:
    """Gives fresh taps of these sizes, for the third stage."""
    widths = {network.unshuffle * 2**level: network.channels * m for level, m in enumerate(network.multipliers)}
    channels = [widths[stride] for stride in network.tap_strides]
    return FidelityTaps(network.tap_strides, channels, channels, groups=network.groups, kind="transform")


def _encoder(network: Network) -> VQGANEncoder:
    return VQGANEncoder(network.dim, **_pyramid(network))


def _pyramid(network: Network) -> dict[str, Any]:
    return {
        "channels": network.channels, "multipliers": network.multipliers, "blocks": network.blocks,
        "attention": network.attention, "groups": network.groups, "unshuffle": network.unshuffle, "activated": False,
        "code_convolution": False,
    }  # fmt: skip

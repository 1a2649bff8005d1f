"""Restoring by predicted codes: a model gives scores of every code, the prior decodes what they stand for."""

from typing import Literal, NamedTuple, Self

import torch
from torch import Tensor, nn

from codeprior.fusion import FidelityTaps
from codeprior.layers import Recorder
from codeprior.predictors import CodePredictor
from codeprior.prior import CodePrior
from codeprior.shapes import Image, Latent, Logits, ManyLogits

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


class CodeRestorer(nn.Module):
    """What models share that predict codes: from logits, and an encoder's features where there are taps, to a face.

    A model that derives from it has the attributes below, is called with degraded faces and gives a `Prediction`; the
    models of DAEFR are two examples.

    Attributes:
        prior: Codebook and decoder.
        predictor: Latent to logits.
        taps: What changes the decoder by an encoder's features; None leaves the prior alone.
        tap_encoder: The encoder that the taps read; with None the model's call takes `record=`, a `Recorder`, and hands
            `record.taps` to the encoder that is read.
        decoding: What the decoder is given.
        scale: Side of the answer over the side of what is restored.
    """

    prior: CodePrior
    predictor: CodePredictor
    taps: FidelityTaps | None
    tap_encoder: nn.Module | None
    decoding: Decoding
    scale = 1

    @property
    def size(self) -> int:
        """Side of the faces that the model takes and gives, pixels."""
        return self.predictor.grid[0] * self.prior.stride

    @property
    def stride(self) -> int:
        """Pixels a grid step of the codes."""
        return self.prior.stride

    def with_taps(
        self, taps: nn.Module, tap_encoder: nn.Module | None = None, *, prior: CodePrior | None = None
    ) -> Self:
        """Gives a model of the same parts, shared, and these taps.

        Args:
            taps: What changes the decoder.
            tap_encoder: The encoder that they read, where they have their own.
            prior: In place of this model's, where the decoder has learned with the taps.
        """
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
    def restore(self, degraded: Image, *, fidelity: float | Tensor = 1.0) -> Image:
        """Gives restored faces `b 3 H W`, signed, not clamped, for degraded ones of the same kind.

        Args:
            degraded: `b 3 size size`, signed.
            fidelity: In [0, 1]: 0 shows the predicted codes alone, 1 follows the picture as far as the taps have
                learned to; a number, or a tensor with one for each face. A model without taps has no use for it.

        Raises:
            ValueError: The number is out of range.
        """
        if not isinstance(fidelity, Tensor) and not 0 <= fidelity <= 1:
            raise ValueError(f"restore: expected a fidelity in [0, 1], got {fidelity}.")
        prediction, recorder = self.predict(degraded)
        return self.decode(prediction, recorder, fidelity=fidelity)

    def decode(
        self, prediction: Prediction, recorder: Recorder | None = None, *, fidelity: float | Tensor = 1.0
    ) -> Image:
        """Gives the faces that a prediction stands for, with gradients to the taps.

        Args:
            prediction: Of degraded faces.
            recorder: That has been through the encoder; needed where there are taps.
            fidelity: The taps' weight, in [0, 1]; a number, or one for each face.
        """
        if self.decoding == "expectation":
            values = self.prior.expected(prediction.logits)
        else:
            values = self.prior.lookup(prediction.logits.argmax(-1))
        taps = None if self.taps is None or recorder is None else self.taps(recorder, weight=fidelity)
        return self.prior.decode(values, taps)

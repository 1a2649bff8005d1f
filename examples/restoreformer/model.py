"""RestoreFormer: a dictionary of clean faces, whose textures the degraded face asks for in the decoder's attention."""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from codeprior.codebooks import Quantized
from codeprior.decoders import VQGANDecoder
from codeprior.layers import MIDDLE, Recorder, Tap, configured
from codeprior.prior import Reconstruction
from codeprior.shapes import Image


@configured
class RestoreFormer(nn.Module):
    """An encoder, a frozen dictionary, and a decoder that the encoder's features ask.

    In every attention of the decoder the queries come from the degraded face; keys, values and the residual come from
    the codes. RestoreFormer++ is the same model with attention in the decoder at half the deepest resolution too.

    Args:
        encoder: Of the degraded face.
        codebook: The dictionary; it is frozen.
        decoder: A guided one, see `VQGANDecoder`.
        size: Side of the faces that it was trained on, pixels; it takes any multiple of its stride.

    Source: Wang et al. 2022 (RestoreFormer) and 2023 (RestoreFormer++). The paper has no control of fidelity.
    """

    scale = 1
    """Side of the answer over the side of what is restored."""

    def __init__(self, encoder: nn.Module, codebook: nn.Module, decoder: nn.Module, *, size: int = 512):
        super().__init__()
        self.encoder, self.codebook = encoder, codebook.requires_grad_(False)
        self.decoder = cast(VQGANDecoder, decoder)
        self.size = size

    @property
    def stride(self) -> int:
        """Pixels a grid step of the codes."""
        return self.decoder.stride

    def forward(self, degraded: Image) -> Reconstruction:
        """Gives the restored faces, with everything on the way that losses need.

        Args:
            degraded: `b 3 H W`, signed; sides are multiples of `stride`.
        """
        recorder = self.recorder()
        latent = self.encoder(degraded, taps=recorder.taps)
        quantized: Quantized = self.codebook(latent)
        image = self.decoder(quantized.values, guides=self.guides(recorder))
        return Reconstruction(image, latent, quantized)

    @torch.no_grad()
    def restore(self, degraded: Image) -> Image:
        """Gives restored faces `b 3 H W`, signed, not clamped, for degraded ones of the same kind."""
        return self(degraded).image

    def recorder(self) -> Recorder:
        """Gives what keeps the encoder's features that the decoder is asked by."""
        return Recorder(list(self._sources().values()))

    def guides(self, recorder: Recorder) -> Mapping[int, Tensor]:
        """Gives the decoder's guides.

        Args:
            recorder: That has been through the encoder.
        """
        return {place: recorder.features[source] for place, source in self._sources().items()}

    def _sources(self) -> dict[int, Tap]:
        # at the deepest grid the same feature asks three times; elsewhere the end of the encoder's level does
        own = {MIDDLE: Tap(MIDDLE), self.stride: Tap(MIDDLE, block=0)}
        return {place: own.get(place, Tap(place)) for place in self.decoder.guided}

"""The codebook prior: a VQGAN learns it, restorers are built on its frozen half."""

from typing import Any, NamedTuple

import torch
from torch import nn

from codeprior.codebooks import Quantized
from codeprior.decoders import Taps
from codeprior.layers import configured
from codeprior.shapes import Image, Indices, Latent


class Reconstruction(NamedTuple):
    """What a VQGAN makes of an image.

    Attributes:
        image: `b 3 H W`, signed, not clamped.
        latent: `b d h w`, what the encoder gave.
        quantized: The codes it was exchanged for.
    """

    image: Image
    latent: Latent
    quantized: Quantized


@configured
class VQGAN(nn.Module):
    """An encoder, a codebook and a decoder, trained to give the image back.

    Args:
        encoder: Signed image to latent; has `dim` and `stride`.
        codebook: Latent to codes; has `dim` and `size`.
        decoder: Values to signed image; has `dim` and `stride`.

    Raises:
        ValueError: The parts disagree on the code dimension or the stride.

    Source: Esser et al. 2021.
    """

    # modules with the attributes named above; nn.Module itself declares none of them
    encoder: Any
    codebook: Any
    decoder: Any

    def __init__(self, encoder: nn.Module, codebook: nn.Module, decoder: nn.Module):
        super().__init__()
        if not encoder.dim == codebook.dim == decoder.dim:
            raise ValueError(
                f"VQGAN: code dimensions differ: encoder {encoder.dim}, codebook {codebook.dim}, decoder {decoder.dim}."
            )
        if encoder.stride != decoder.stride:
            raise ValueError(f"VQGAN: the encoder has stride {encoder.stride}, the decoder {decoder.stride}.")
        self.encoder = encoder
        self.codebook = codebook
        self.decoder = decoder

    @property
    def stride(self) -> int:
        """Pixels a grid step."""
        return self.encoder.stride

    def encode(self, image: Image) -> Quantized:
        """Gives the codes of an image `b 3 H W`, signed."""
        return self.codebook(self._latent(image))

    def decode(self, values: Latent, taps: Taps | None = None) -> Image:
        """Gives the signed image of values `b d h w`."""
        return self.decoder(values, taps)

    def forward(self, image: Image) -> Reconstruction:
        """Gives the image back, with everything on the way that losses need.

        Args:
            image: `b 3 H W`, signed.
        """
        latent = self._latent(image)
        quantized = self.codebook(latent)
        return Reconstruction(self.decoder(quantized.values), latent, quantized)

    def prior(self) -> "CodePrior":
        """Gives the half that restorers are built on; it shares these weights and freezes them."""
        return CodePrior(self.codebook, self.decoder)

    def _latent(self, image: Image) -> Latent:
        # distances to codes want the weights' precision, also where autocast ran the encoder in half of it
        latent = self.encoder(image)
        return latent.to(next((parameter.dtype for parameter in self.encoder.parameters()), latent.dtype))


@configured
class CodePrior(nn.Module):
    """What clean images are made of: a frozen codebook, and the frozen decoder that shows it.

    Neither part gets gradients of its own, and `train()` leaves both in evaluation mode; gradients still flow through
    the decoder to the values that it is given.

    Args:
        codebook: Has `size`, `dim` and `lookup`.
        decoder: Values to signed image; has `stride`.

    Raises:
        ValueError: The parts disagree on the code dimension.
    """

    codebook: Any
    decoder: Any

    def __init__(self, codebook: nn.Module, decoder: nn.Module):
        super().__init__()
        if codebook.dim != decoder.dim:
            raise ValueError(f"CodePrior: the codebook has dimension {codebook.dim}, the decoder {decoder.dim}.")
        self.codebook = codebook
        self.decoder = decoder
        self.requires_grad_(False)
        self.train(False)

    @property
    def dim(self) -> int:
        """Code dimension."""
        return self.codebook.dim

    @property
    def size(self) -> int:
        """How many codes there are."""
        return self.codebook.size

    @property
    def stride(self) -> int:
        """Pixels a grid step."""
        return self.decoder.stride

    def train(self, mode: bool = True) -> "CodePrior":
        """Stays in evaluation mode, whatever `mode` is: a prior does not learn."""
        return super().train(False)

    def lookup(self, indices: Indices) -> Latent:
        """Gives the codes `b d h w` of indices `b h w`."""
        return self.codebook.lookup(indices)

    def decode(self, indices: Indices, taps: Taps | None = None) -> Image:
        """Gives the image that indices stand for.

        Args:
            indices: `b h w`, each in `[0, size)`.
            taps: Passed to the decoder.

        Returns:
            `b 3 H W`, signed, not clamped.
        """
        return self.decoder(self.lookup(indices), taps)

    @torch.no_grad()
    def quantize(self, latent: Latent) -> Quantized:
        """Gives the codes nearest to a latent `b d h w`, without gradients."""
        return self.codebook(latent)

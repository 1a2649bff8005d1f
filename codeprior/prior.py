"""The codebook prior: a VQGAN learns it; restorers are built on its codebook and decoder, which are frozen."""

import warnings
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from codeprior.codebooks import Quantized, Quantizer
from codeprior.decoders import Decoder, Taps
from codeprior.encoders import Encoder
from codeprior.images import as_png, to_unit
from codeprior.layers import configured
from codeprior.shapes import Image, Indices, Latent, Logits, ManyIndices, ManyLogits, brief

__all__ = ["VQGAN", "CodePrior", "Frozen", "Reconstruction"]

Frozen = bool | Literal["codebook"]
"""What of a prior does not learn: codebook and decoder, the codebook, or nothing."""


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

    def __repr__(self) -> str:
        """Gives the shapes."""
        return f"Reconstruction(image {brief(self.image)}, latent {brief(self.latent)}, {self.quantized})"

    def _repr_png_(self) -> bytes:
        return as_png(to_unit(self.image.detach()))


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

    encoder: Encoder
    codebook: Quantizer
    decoder: Decoder

    def __init__(self, encoder: Encoder, codebook: Quantizer, decoder: Decoder):
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

    def decode_indices(self, indices: Indices | ManyIndices, taps: Taps | None = None) -> Image:
        """Gives the signed image that indices `b h w`, of several tables `b m h w`, stand for."""
        return self.decoder(self.codebook.lookup(indices), taps)

    def forward(self, image: Image, *, coded: bool = True) -> Reconstruction:
        """Gives the reconstruction of an image, with the latent and the codes, which losses need.

        Args:
            image: `b 3 H W`, signed.
            coded: Whether the latent is exchanged for codes. If not, the decoder gets the latent itself, the codes are
                equal to it, and there are no indices (`b 0 h w`). Training may begin so, until the latents have a
                distribution that codes can describe.
        """
        latent = self._latent(image)
        quantized = self.codebook(latent) if coded else _uncoded(latent)
        return Reconstruction(self.decoder(quantized.values), latent, quantized)

    def prior(self, *, frozen: Frozen = True) -> "CodePrior":
        """Gives the half that restorers are built on; it shares these weights.

        Args:
            frozen: What of it does not learn, see `CodePrior`.
        """
        return CodePrior(self.codebook, self.decoder, frozen=frozen)

    def _latent(self, image: Image) -> Latent:
        # distances to codes want the weights' precision, also where autocast ran the encoder in half of it
        latent = self.encoder(image)
        return latent.to(next((parameter.dtype for parameter in self.encoder.parameters()), latent.dtype))


def _uncoded(latent: Latent) -> Quantized:
    none = torch.zeros(len(latent), 0, *latent.shape[2:], dtype=torch.int64, device=latent.device)
    return Quantized(latent, latent.detach(), none)


@configured
class CodePrior(nn.Module):
    """What clean images are made of: a codebook, and the decoder that shows it; both frozen unless asked otherwise.

    A frozen part gets no gradients of its own, and `train()` leaves it in evaluation mode; gradients still flow through
    the decoder to the values that it is given.

    Args:
        codebook: Has `size`, `dim` and `lookup`.
        decoder: Values to signed image; has `stride`.
        frozen: `True` for both parts; `"codebook"` for the codes only, where a restorer goes on training its decoder,
            as RestoreFormer does; `False` for neither.

    Raises:
        ValueError: The parts disagree on the code dimension, or `frozen` is none of these.
    """

    codebook: Quantizer
    decoder: Decoder

    def __init__(self, codebook: Quantizer, decoder: Decoder, *, frozen: Frozen = True):
        super().__init__()
        if frozen not in (True, False, "codebook"):
            raise ValueError(f"CodePrior: frozen must be True, False or 'codebook', got {frozen!r}.")
        if codebook.dim != decoder.dim:
            raise ValueError(f"CodePrior: the codebook has dimension {codebook.dim}, the decoder {decoder.dim}.")
        self.codebook = codebook
        self.decoder = decoder
        self.frozen: Frozen = frozen
        for part in self._frozen_parts():
            part.requires_grad_(False)
        self.train(frozen is not True)

    @property
    def dim(self) -> int:
        """Code dimension."""
        return self.codebook.dim

    @property
    def size(self) -> int:
        """How many codes there are."""
        return self.codebook.size

    @property
    def tables(self) -> int:
        """How many codes stand at a place: 1, or one of each residual table or group."""
        return getattr(self.codebook, "count", getattr(self.codebook, "groups", 1))

    @property
    def stride(self) -> int:
        """Pixels a grid step."""
        return self.decoder.stride

    def train(self, mode: bool = True) -> "CodePrior":
        """Sets the mode of the parts that learn; a frozen part stays in evaluation mode."""
        super().train(mode and self.frozen is not True)
        for part in self._frozen_parts():
            part.train(False)
        return self

    def lookup(self, indices: Indices | ManyIndices) -> Latent:
        """Gives the codes `b d h w` of indices `b h w`; of several tables `b m h w`."""
        return self.codebook.lookup(indices)

    def expected(self, logits: Logits | ManyLogits) -> Latent:
        """Gives the mean of the codes at each place, weighted by their predicted probabilities.

        Where the prediction is uncertain this has the smallest expected squared error. It keeps more of the person and
        less texture than the likeliest code does.

        Args:
            logits: `b h w k`; of residual tables `b m h w k`, whose means are summed.

        Returns:
            `b d h w`, in the codes' type.

        Raises:
            ValueError: The codebook is not a table, nor residual tables, of rows that are summed.
        """
        tables = self._tables()
        logits = logits if logits.ndim == 5 else logits[:, None]
        return torch.einsum("b m h w k, m k d -> b d h w", logits.to(tables.dtype).softmax(-1), tables)

    def decode(self, values: Latent, taps: Taps | None = None) -> Image:
        """Gives the image of values of code space.

        Args:
            values: `b d h w`.
            taps: Passed to the decoder.

        Returns:
            `b 3 H W`, signed, not clamped.

        Note:
            Integers are taken as indices, as they were before 0.2, with a warning; use `decode_indices`.
        """
        if not values.is_floating_point():
            warnings.warn(
                "CodePrior.decode takes values; decode_indices takes indices.", DeprecationWarning, stacklevel=2
            )
            return self.decode_indices(values, taps)
        return self.decoder(values, taps)

    def decode_indices(self, indices: Indices | ManyIndices, taps: Taps | None = None) -> Image:
        """Gives the image that indices stand for.

        Args:
            indices: `b h w`, each in `[0, size)`; of several tables `b m h w`.
            taps: Passed to the decoder.

        Returns:
            `b 3 H W`, signed, not clamped.
        """
        return self.decoder(self.lookup(indices), taps)

    def quantize(self, latent: Latent) -> Quantized:
        """Gives the codes nearest to a latent.

        Args:
            latent: `b d h w`.

        Returns:
            Values whose gradient passes to the latent, as the codebook says (straight through by default), the codes
            and their indices.
        """
        return self.codebook(latent)

    def _frozen_parts(self) -> list[nn.Module]:
        names = {True: ("codebook", "decoder"), "codebook": ("codebook",), False: ()}[self.frozen]
        return [self.get_submodule(name) for name in names]

    def _tables(self) -> Tensor:
        rows = getattr(self.codebook, "tables", None)
        rows = getattr(self.codebook, "weight", None) if rows is None else rows
        if not isinstance(rows, Tensor) or rows.shape[-1] != self.dim:
            raise ValueError(f"CodePrior: a {type(self.codebook).__name__} has no rows to take the mean of.")
        return rows if rows.ndim == 3 else rows[None]

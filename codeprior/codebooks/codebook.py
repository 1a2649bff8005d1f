"""A table of codes that learns by gradient, and what every codebook gives: values, codes and indices."""

from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from codeprior.kernels.nearest_code import lookup
from codeprior.layers.configured import configured
from codeprior.shapes import Indices, Latent


class Quantized(NamedTuple):
    """What a codebook gives for a latent."""

    values: Latent
    """The codes for a decoder; their gradient goes straight through to the latent."""
    codes: Latent
    """The chosen rows of the table; their gradient goes to the table, where it learns by gradient."""
    indices: Indices
    """The numbers of the chosen rows."""


def straight_through(latent: Tensor, codes: Tensor) -> Tensor:
    """Gives the codes, bit for bit, with the gradient of the latent.

    Args:
        latent: What was quantised.
        codes: What it was exchanged for, same shape.

    Returns:
        Same shape. Source: van den Oord et al. 2017, section 3.2; codes + (latent − latent) instead of the usual
        latent + (codes − latent), which rounds.
    """
    return codes.detach() + (latent - latent.detach())


@configured
class Codebook(nn.Module):
    """A codebook that learns by gradient: the nearest row of a table for each vector of a latent.

    Args:
        size: Count of codes.
        dim: Width of a code.

    Attributes:
        weight: `(size, dim)`, uniform in (−1/size, 1/size) at first.

    Source: LIAGM/DAEFR:modules/vqvae/vqvae_arch.py. It returns no loss: see `codeprior.losses.codebook_loss`.
    """

    def __init__(self, size: int, dim: int):
        super().__init__()
        self.size, self.dim = size, dim
        self.weight = nn.Parameter(torch.empty(size, dim).uniform_(-1 / size, 1 / size))

    def forward(self, latent: Latent) -> Quantized:
        """Exchanges each vector for its nearest code.

        Args:
            latent: `b d h w`, with `d = dim`.

        Returns:
            values: The codes with a straight-through gradient, in the latent's type.
            codes: The codes with a gradient to the table, in the latent's type.
            indices: `b h w`, int64.

        Raises:
            ValueError: The latent's width is not `dim`.
        """
        found = lookup(latent.detach(), self.weight)
        return Quantized(straight_through(latent, found.codes), found.codes, found.indices)

    def lookup(self, indices: Indices) -> Latent:
        """Gives the codes of these indices.

        Args:
            indices: `b h w`, integers in [0, size).

        Returns:
            `b d h w`, in the table's type.
        """
        return rearrange(F.embedding(indices, self.weight), "b h w d -> b d h w").contiguous()

    def extra_repr(self) -> str:
        return f"size={self.size}, dim={self.dim}"

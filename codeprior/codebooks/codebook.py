"""A table of codes that learns by gradient, and what every codebook gives: values, codes and indices."""

from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Bool
from torch import Tensor, nn
from torch.nn import functional as F

from codeprior.codebooks.gradients import Passage, pass_gradient
from codeprior.codebooks.start import Vectors, exchanged, kmeans
from codeprior.kernels.nearest_code import lookup
from codeprior.layers.configured import configured
from codeprior.shapes import Indices, Latent, brief


class Quantized(NamedTuple):
    """What a codebook gives for a latent."""

    values: Latent
    """The codes for a decoder; their gradient goes straight through to the latent."""
    codes: Latent
    """The chosen rows of the table; where the table learns by gradient, they carry a gradient to it."""
    indices: Indices
    """The numbers of the chosen rows."""

    def __repr__(self) -> str:
        """Gives the shapes instead of thousands of numbers."""
        return f"Quantized(values {brief(self.values)}, codes {brief(self.codes)}, indices {brief(self.indices)})"


def exchange(latent: Latent, table: Tensor, *, how: Passage) -> Quantized:
    """Gives each vector's nearest row of a table: the forward of every codebook that keeps a table.

    Args:
        latent: `b d h w`.
        table: `(k, d)`.
        how: The gradient passes to the latent, see `pass_gradient`.
    """
    found = lookup(latent.detach(), table)
    return Quantized(pass_gradient(latent, found.codes, how=how), found.codes, found.indices)


def check_sizes(who: str, size: int, dim: int) -> None:
    """Raises an error where a table would have no codes, or codes without numbers."""
    if size < 1 or dim < 1:
        raise ValueError(f"{who}: expected at least 1 code of at least 1 number, got size={size} and dim={dim}.")


def check_indices(indices: Indices, size: int) -> None:
    """Raises an error where these are not the numbers of codes: the same one for every codebook's `lookup`.

    Args:
        indices: `b h w`, integers in [0, size).
        size: Count of codes.

    Raises:
        TypeError: They are no tensor, or no integers.
        ValueError: They are not `b h w`; or, on the CPU, one is out of range.
    """
    given = indices.dtype if isinstance(indices, Tensor) else type(indices).__name__
    if given not in (torch.int64, torch.int32):
        raise TypeError(f"lookup: expected indices b h w of int64 or int32, got {given}.")
    if indices.ndim != 3:
        raise ValueError(f"lookup: expected indices b h w, got {tuple(indices.shape)}.")
    # on a GPU looking at values would make everything wait, and a traced graph cannot branch on them
    if indices.device.type == "cpu" and indices.numel() and not torch.compiler.is_compiling():
        low, high = (value.item() for value in indices.aminmax())
        if low < 0 or high >= size:
            raise ValueError(f"lookup: expected indices from 0 to {size - 1}, got {low} to {high}.")


def codes_at(indices: Indices, table: Tensor) -> Latent:
    """Gives the rows of a table at these indices, `b h w` to `b d h w`.

    Raises:
        TypeError: The indices are no integers.
        ValueError: They are not `b h w`; or, on the CPU, one is not the number of a row.
    """
    check_indices(indices, len(table))
    return rearrange(F.embedding(indices, table), "b h w d -> b d h w").contiguous()


@configured
class Codebook(nn.Module):
    """A codebook that learns by gradient: the nearest row of a table for each vector of a latent.

    Args:
        size: Count of codes.
        dim: Width of a code.
        gradient: How it passes to the latent, `"straight_through"` or `"rotation"`.

    Raises:
        ValueError: Size or dimension is below 1.

    Attributes:
        weight: `(size, dim)`, uniform in (−1/size, 1/size) at first.

    Source: LIAGM/DAEFR:modules/vqvae/vqvae_arch.py. It returns no loss: see `codeprior.losses.codebook_loss`.
    """

    def __init__(self, size: int, dim: int, *, gradient: Passage = "straight_through"):
        super().__init__()
        check_sizes("Codebook", size, dim)
        self.size, self.dim = size, dim
        self.gradient: Passage = gradient
        self.weight = nn.Parameter(torch.empty(size, dim).uniform_(-1 / size, 1 / size))

    def forward(self, latent: Latent) -> Quantized:
        """Exchanges each vector for its nearest code.

        Args:
            latent: `b d h w`, with `d = dim`.

        Returns:
            values: The codes with a gradient to the latent, in its type.
            codes: The codes with a gradient to the table, in the latent's type.
            indices: `b h w`, int64.

        Raises:
            ValueError: The latent's width is not `dim`.
        """
        return exchange(latent, self.weight, how=self.gradient)

    def lookup(self, indices: Indices) -> Latent:
        """Gives the codes of these indices.

        Args:
            indices: `b h w`, integers in [0, size).

        Returns:
            `b d h w`, in the table's type.

        Raises:
            TypeError: They are no integers.
            ValueError: They are not `b h w`; or, on the CPU, one is out of range.
        """
        return codes_at(indices, self.weight)

    @torch.no_grad()
    def start(self, vectors: Vectors, *, seed: int = 0) -> None:
        """Sets the codes to the centres that k-means finds among these vectors.

        Args:
            vectors: `(n, d)`, as the encoder gives them; several for each code.
            seed: Of the draws.

        Raises:
            ValueError: There is no vector, or a value is not finite.
        """
        self.weight.copy_(kmeans(vectors, self.size, seed=seed))

    @torch.no_grad()
    def revive(self, vectors: Vectors, dead: Bool[Tensor, " k"], *, seed: int = 0) -> None:
        """Sets dead codes to vectors of a batch; from there the gradient moves them as it moves other codes.

        The optimiser's moments of such a code are near zero by then, because no vector has chosen it for long.

        Args:
            vectors: `(n, d)`, as the encoder gives them; the same on every rank.
            dead: Which codes, see `unused`.
            seed: Of the draws.
        """
        self.weight.copy_(exchanged(self.weight, vectors, dead, seed=seed))

    def extra_repr(self) -> str:
        return f"size={self.size}, dim={self.dim}"

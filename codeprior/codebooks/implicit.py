"""Codebooks without a table: the codes are a grid, and the nearest one is found by rounding each number of a vector.

These tables cannot collapse, because nothing in them is learned. An encoder can still leave codes unused;
`code_entropy_loss` works against that.
"""

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn

from codeprior.codebooks.codebook import Quantized, check_indices
from codeprior.codebooks.gradients import straight_through
from codeprior.layers.configured import configured
from codeprior.shapes import Indices, Latent


@configured
class FiniteScalarCodebook(nn.Module):
    """Finite scalar quantisation: each number of a vector is bounded, and rounded to one of a few levels.

    Args:
        levels: How many levels each number of a vector has, 2 or more. There are `dim` numbers, and the product of
            their levels is `size`.

    Raises:
        ValueError: There are no levels, or a number has fewer than 2.

    Attributes:
        size: Count of codes.
        dim: Width of a code.

    Source: Mentzer et al. 2023 (FSQ), section 3.1 and appendix A.1, whose usual levels are (8, 5, 5, 5) for 1,000 codes
    and (8, 8, 8, 5, 5, 5) for 64,000.
    """

    levels: Tensor
    steps: Tensor

    def __init__(self, levels: Sequence[int]):
        super().__init__()
        if not levels or min(levels) < 2:
            raise ValueError(f"FiniteScalarCodebook: expected two or more levels for each number, got {tuple(levels)}.")
        count = torch.tensor(list(levels))
        self.register_buffer("levels", count, persistent=False)
        self.register_buffer("steps", torch.cat([count.new_ones(1), count[:-1].cumprod(0)]), persistent=False)
        self.dim, self.size = len(levels), int(count.prod())

    def bounded(self, latent: Latent) -> Latent:
        """Gives the latent before it is rounded: bounded to the outermost levels, in units of half the range, float32.

        A number of an even count of levels is moved by half a level, so that one level lies at 0.
        """
        levels = rearrange(self.levels, "d -> d 1 1").float()
        # a little more than the range, so that the outermost levels are reached
        half = (levels - 1) * (1 + 1e-3) / 2
        offset = torch.where(levels % 2 == 0, 0.5, 0.0)
        shift = torch.atanh(offset / half)
        return (torch.tanh(latent.float() + shift) * half - offset) / (levels // 2)

    def forward(self, latent: Latent) -> Quantized:
        """Rounds each number of each vector.

        Args:
            latent: `b d h w`, with `d = dim`; any range.

        Returns:
            values: The codes, in [−1, 1], with a gradient to the latent, in its type.
            codes: The same without a gradient.
            indices: `b h w`, int64. A vector that is not finite gets 0, and its codes are NaN.

        Raises:
            ValueError: The latent's width is not `dim`.
        """
        _check("FiniteScalarCodebook", latent, self.dim)
        bounded = self.bounded(latent)
        half = rearrange(self.levels // 2, "d -> d 1 1")
        with torch.no_grad():
            digits = (bounded * half).round()
            fine = latent.isfinite().all(1, keepdim=True)
            codes = torch.where(fine, digits / half, torch.nan).to(latent.dtype)
            digits = torch.where(fine, digits + half, 0).long()
            indices = (digits * rearrange(self.steps, "d -> d 1 1")).sum(1)
        return Quantized(straight_through(bounded.to(latent.dtype), codes), codes, indices)

    def lookup(self, indices: Indices) -> Latent:
        """Gives the codes of these indices.

        Args:
            indices: `b h w`, integers in [0, size).

        Returns:
            `b d h w`, float32.

        Raises:
            TypeError: They are no integers.
            ValueError: They are not `b h w`; or, on the CPU, one is out of range.
        """
        check_indices(indices, self.size)
        levels, steps = (rearrange(part, "d -> d 1 1") for part in (self.levels, self.steps))
        digits = indices[:, None] // steps % levels
        return (digits - levels // 2).float() / (levels // 2)

    def extra_repr(self) -> str:
        return f"levels={tuple(self.levels.tolist())}"


@configured
class LookupFreeCodebook(nn.Module):
    """Lookup-free quantisation: a code is the signs of a vector's numbers.

    Args:
        dim: Width of a code; there are 2^dim codes.

    Raises:
        ValueError: `dim` is not in [1, 62].

    Attributes:
        size: Count of codes, 2^dim.

    Source: Yu et al. 2023 (MAGVIT-v2), section 3.1. It needs `code_entropy_loss` beside a commitment term.
    """

    def __init__(self, dim: int):
        super().__init__()
        if not 1 <= dim <= 62:
            raise ValueError(f"LookupFreeCodebook: expected a width in [1, 62], got {dim}.")
        self.dim, self.size = dim, 2**dim

    def forward(self, latent: Latent) -> Quantized:
        """Takes the sign of each number of each vector; that of 0 is −1.

        Args:
            latent: `b d h w`, with `d = dim`.

        Returns:
            values: −1 and 1, with a gradient to the latent, in its type.
            codes: The same without a gradient.
            indices: `b h w`, int64; bit i is set where number i is 1. A vector that is not finite gets 0, and its codes
                are NaN.

        Raises:
            ValueError: The latent's width is not `dim`.
        """
        _check("LookupFreeCodebook", latent, self.dim)
        with torch.no_grad():
            fine = latent.isfinite().all(1, keepdim=True)
            bits = (latent > 0) & fine
            codes = torch.where(fine, bits.to(latent.dtype) * 2 - 1, torch.nan)
            indices = (bits.long() << self._places(latent)).sum(1)
        return Quantized(straight_through(latent, codes), codes, indices)

    def lookup(self, indices: Indices) -> Latent:
        """Gives the codes of these indices.

        Args:
            indices: `b h w`, integers in [0, size).

        Returns:
            `b d h w`, float32.

        Raises:
            TypeError: They are no integers.
            ValueError: They are not `b h w`; or, on the CPU, one is out of range.
        """
        check_indices(indices, self.size)
        return (indices[:, None] >> self._places(indices) & 1).float() * 2 - 1

    def extra_repr(self) -> str:
        return f"dim={self.dim}, size={self.size}"

    def _places(self, like: Tensor) -> Tensor:
        return rearrange(torch.arange(self.dim, device=like.device), "d -> d 1 1")


def _check(name: str, latent: Tensor, dim: int) -> None:
    if latent.ndim != 4 or latent.shape[1] != dim:
        raise ValueError(f"{name}: expected latent (b, {dim}, h, w), got {tuple(latent.shape)}.")

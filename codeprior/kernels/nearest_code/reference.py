"""The meaning of the lookup in plain PyTorch: the float64 argmin of the squared distance, lowest index on ties.

What is not finite: a float64 distance that is NaN counts as infinite, so a code that holds a NaN or an infinity is
never chosen before another. A vector without a finite distance to any code, because it holds a NaN or an infinity
itself or because no code is finite, gets index 0; its codes and its distance are NaN, so that the fault shows in what
follows. It is counted like any other vector. The rule is the same in every implementation and in both modes.
"""

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

_BLOCK = 32
_ELEMENTS = 2**20  # float64 differences that are held at a time


def nearest_rows(rows: Tensor, codebook: Tensor) -> Tensor:
    """Gives the index of the nearest code for each row, by every distance in float64.

    Args:
        rows: `(b, s, d)`, any floating type.
        codebook: `(k, d)`, any floating type.

    Returns:
        `(b, s)`, int64; 0 for a row without a finite distance.
    """
    flat = rearrange(rows, "b s d -> (b s) d")
    found = []
    for part in flat.split(max(1, _ELEMENTS // codebook.numel())):
        distances = squared_distance(part[:, None], codebook)
        distances = torch.where(distances.isnan(), torch.inf, distances)
        lowest = distances == distances.amin(1, keepdim=True)
        found.append(lowest.to(torch.uint8).argmax(1))
    indices = torch.cat(found) if found else torch.empty(0, dtype=torch.int64, device=rows.device)
    return rearrange(indices, "(b s) -> b s", b=len(rows))


def squared_distance(first: Tensor, second: Tensor) -> Tensor:
    """Gives the squared Euclidean distance over the last axis in float64, always summed in one fixed order.

    Blocks of 32 are summed as a binary tree of neighbours, and the blocks one after the other. Every implementation
    sums in this order; two codes whose distances agree but for rounding are then ranked alike everywhere.

    Args:
        first: `(…, d)`, any floating type.
        second: `(…, d)`, broadcast against `first`.

    Returns:
        `(…)`, float64.
    """
    squares = (first.double() - second.double()).square()
    width = squares.shape[-1]
    block = min(_BLOCK, 1 << max(width - 1, 0).bit_length())
    squares = rearrange(F.pad(squares, (0, -width % block)), "... (blocks block) -> ... blocks block", block=block)
    while squares.shape[-1] > 1:
        squares = squares[..., 0::2] + squares[..., 1::2]
    total = squares[..., 0, 0]
    for index in range(1, squares.shape[-2]):
        total = total + squares[..., index, 0]
    return total

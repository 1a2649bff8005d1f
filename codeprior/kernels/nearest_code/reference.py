"""The meaning of the lookup in plain PyTorch: the float64 argmin of the squared distance, lowest index on ties.

A float32 matrix product screens; every row whose runner-up is within the rounding bound is scored again in float64.
"""

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

_ROWS = 1024
_BLOCK = 32


def squared_distance(first: Tensor, second: Tensor) -> Tensor:
    """Gives the squared Euclidean distance over the last axis in float64, always summed in one fixed order.

    Blocks of 32 are summed as a binary tree, and the blocks one after the other. Every implementation sums so, and two
    codes whose distances agree mathematically are then ranked alike everywhere.

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
        pairs = rearrange(squares, "... (half pair) -> ... half pair", pair=2)
        squares = pairs[..., 0] + pairs[..., 1]
    total = squares[..., 0, 0]
    for index in range(1, squares.shape[-2]):
        total = total + squares[..., index, 0]
    return total


def nearest_rows(rows: Tensor, codebook: Tensor) -> Tensor:
    """Gives the index of the nearest code for each row.

    Args:
        rows: `(n, d)`, any floating type.
        codebook: `(k, d)`, any floating type.

    Returns:
        `(n,)`, int64. A row with a NaN gets 0; a code that is not finite is chosen only if none is finite.
    """
    centre = codebook.double().mean(0)
    centre = torch.where(centre.isfinite(), centre, 0).float()
    codes = (codebook.double() - centre.double()).float()
    half = codes.double().square().sum(1).mul(0.5).float()
    # float32 products and sums: |error| <= gamma (|x| |c| + |c|^2 / 2), with room for the centring of both sides
    gamma = (codebook.shape[1] + 8) * 2.0**-23
    longest = codes.double().norm(dim=1).max()
    indices = torch.empty(len(rows), dtype=torch.int64, device=rows.device)
    for start in range(0, len(rows), _ROWS):
        block = rows[start : start + _ROWS]
        centred = block.float() - centre
        scores = torch.addmm(half, centred, codes.T, alpha=-1)
        best, found = scores.min(1)
        bound = gamma * longest * (centred.double().norm(dim=1) + longest)
        near = ((scores <= (best + 2 * bound)[:, None]).sum(1) != 1) | ~bound.isfinite()
        doubtful = near.nonzero()[:, 0]
        for part in doubtful.split(max(1, 2**22 // max(1, codebook.numel()))):
            found[part] = _exact(block[part], codebook)
        indices[start : start + _ROWS] = found
    return indices


def _exact(rows: Tensor, codebook: Tensor) -> Tensor:
    distances = squared_distance(rows[:, None], codebook)
    distances = torch.where(distances.isnan(), torch.inf, distances)
    lowest = distances == distances.amin(1, keepdim=True)
    return lowest.to(torch.uint8).argmax(1)

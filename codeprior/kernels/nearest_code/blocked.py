"""The lookup in plain PyTorch for any device: float32 blocks over rows and codes, near ties settled in float64.

Blocks are small enough to stay in the cache, and no n x k matrix exists. On the CPU the argmin is numpy's, on the same
memory: it is vectorised, and torch's is not. The product takes |c|²/2 as one more column: adding it to each block would
be a pass over all scores.
"""

import functools

import torch
from einops import rearrange
from torch import Tensor

from codeprior.kernels.nearest_code.settle import margin, middle, operand_rounding, settle

_ROWS = 1024
_CODES = 1024
_PANEL = 2**20  # elements of centred rows, and of centred codes, that are held at a time


def nearest_rows(rows: Tensor, codebook: Tensor, *, exact: bool = True) -> Tensor:
    """Gives the index of the nearest code for each row.

    Args:
        rows: `(b, s, d)`, any floating type, any strides.
        codebook: `(k, d)`.
        exact: Settle near ties in float64; without it only rows whose scores are not finite are settled.

    Returns:
        `(b, s)`, int64.
    """
    if rows.is_contiguous() and len(rows) > 1:
        return nearest_rows(rearrange(rows, "b s d -> 1 (b s) d"), codebook, exact=exact).view(rows.shape[:2])
    indices = torch.empty(rows.shape[:2], dtype=torch.int64, device=rows.device)
    doubtful = torch.empty(rows.shape[:2], dtype=torch.bool, device=rows.device)
    table = _Table(codebook)
    step = max(_ROWS, _PANEL // rows.shape[2])
    for image in range(len(rows)):
        for start in range(0, rows.shape[1], step):
            panel, found, unsure = (tensor[image, start : start + step] for tensor in (rows, indices, doubtful))
            _search(panel, found, unsure, table=table, exact=exact)
    settle(rows, codebook, indices, doubtful=doubtful)
    return indices


class _Table:
    """The codebook, centred and in float32, a block at a time; kept where it is small."""

    def __init__(self, codebook: Tensor):
        self.codebook = codebook
        self.centre = middle(codebook)
        self.half = torch.cat([self._centred(first).square().sum(1) / 2 for first in range(0, len(codebook), _CODES)])
        self.longest = (2 * self.half.max()).sqrt()
        self.block = functools.cache(self._block) if codebook.numel() <= _PANEL else self._block

    def rows(self, panel: Tensor) -> Tensor:
        """Centred rows, and a column of ones that meets |c|²/2."""
        rows = torch.empty(len(panel), panel.shape[1] + 1, device=panel.device)
        rows[:, :-1] = panel - self.centre
        rows[:, -1] = 1
        return rows

    def _block(self, first: int) -> Tensor:
        # −c and |c|²/2: the scores |c|²/2 − x·c are one product
        codes = self._centred(first)
        return torch.cat([codes.neg_(), self.half[first : first + _CODES, None]], 1)

    def _centred(self, first: int) -> Tensor:
        return (self.codebook[first : first + _CODES] - self.centre).float()


def _search(panel: Tensor, indices: Tensor, doubtful: Tensor, *, table: _Table, exact: bool) -> None:
    centred = table.rows(panel)
    low = torch.full((len(panel),), torch.inf, device=panel.device)
    after = low.clone()
    size = len(table.codebook)
    room = torch.empty(min(len(panel), _ROWS), min(size, _CODES), device=panel.device)
    for first in range(0, size, _CODES):
        for start in range(0, len(panel), _ROWS):
            span = slice(start, start + _ROWS)
            rows = centred[span]
            part = room[: len(rows), : min(_CODES, size - first)]
            torch.mm(rows, table.block(first).T, out=part)
            found = _argmin(part)[:, None]
            least = part.gather(1, found)[:, 0]
            runner = part.scatter_(1, found, torch.inf).amin(1)
            better = least < low[span]
            # the loser of the two blocks, or the runner-up of either
            after[span] = torch.minimum(torch.maximum(least, low[span]), torch.minimum(runner, after[span]))
            low[span] = torch.minimum(least, low[span])
            indices[span] = torch.where(better, found[:, 0] + first, indices[span]) if first else found[:, 0]
    centred = centred[:, :-1]
    norm, rounding = torch.linalg.vector_norm(centred, dim=1), operand_rounding(panel.device)
    reach = margin(norm, table.longest, width=panel.shape[1], rounding=rounding)
    doubtful.copy_(~(after - low > reach) if exact else ~reach.isfinite())


def _argmin(scores: Tensor) -> Tensor:
    if scores.device.type != "cpu":
        return scores.argmin(1)
    return torch.from_numpy(scores.numpy().argmin(1))

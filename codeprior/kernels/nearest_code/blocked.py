"""The lookup in plain PyTorch for any device: float32 blocks over rows and codes, near ties settled in float64.

Blocks are small enough to stay in the cache, and no n x k matrix exists. On the CPU the argmin is numpy's, on the same
memory: it is vectorised, and torch's is not. Where codes are short the product takes |c|²/2 as one more column: adding
it to each block would cost as much as the product. For long codes the column would make the width of the product odd,
and the product slower.
"""

import torch
from einops import rearrange
from torch import Tensor

from codeprior.kernels.nearest_code.settle import margin, middle, operand_rounding, settle

_ROWS = 1024
_CODES = 1024
_SHORT = 16  # dims up to which |c|²/2 is one more column of the product
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
    """The codebook, centred and in float32, as −c and |c|²/2, a block at a time; kept where it is small."""

    def __init__(self, codebook: Tensor):
        self.codebook, self.centre, self.width = codebook, middle(codebook), codebook.shape[1]
        self.short = self.width <= _SHORT
        # a cache around a method and the table would refer to each other, and stay until the garbage collector runs
        self.kept: dict[int, tuple[Tensor, Tensor]] | None = {} if codebook.numel() <= _PANEL else None
        half = torch.stack([self.block(first)[1].amax() for first in range(0, len(codebook), _CODES)]).amax()
        self.longest = (2 * half).sqrt()

    def rows(self, panel: Tensor) -> Tensor:
        """Centred rows; with a column of ones where the product takes |c|²/2 as well."""
        rows = torch.empty(len(panel), self.width + self.short, device=panel.device)
        torch.sub(panel, self.centre, out=rows[:, : self.width])
        rows[:, self.width :] = 1
        return rows

    def scores(self, rows: Tensor, block: tuple[Tensor, Tensor], out: Tensor) -> None:
        """Writes |c|²/2 − x·c of these rows and a block of codes."""
        codes, half = block
        if self.short:
            torch.mm(rows, codes.T, out=out)
        else:
            torch.addmm(half, rows, codes.T, out=out)

    def block(self, first: int) -> tuple[Tensor, Tensor]:
        """Gives −c of the codes from `first` on, and their |c|²/2: a last column as well where codes are short."""
        if self.kept is None:
            return self._made(first)
        if first not in self.kept:
            self.kept[first] = self._made(first)
        return self.kept[first]

    def _made(self, first: int) -> tuple[Tensor, Tensor]:
        codes = self.codebook[first : first + _CODES]
        block = torch.empty(len(codes), self.width + self.short, device=codes.device)
        # new memory costs as much as the pass that fills it, so no copy is made on the way
        torch.sub(self.centre, codes, out=block[:, : self.width])
        half = torch.linalg.vector_norm(block[:, : self.width], dim=1).square_().div_(2)
        block[:, self.width :] = half[:, None]
        return block, half


def _search(panel: Tensor, indices: Tensor, doubtful: Tensor, *, table: _Table, exact: bool) -> None:
    centred = table.rows(panel)
    low = torch.full((len(panel),), torch.inf, device=panel.device)
    after = low.clone()
    size = len(table.codebook)
    room = torch.empty(min(len(panel), _ROWS), min(size, _CODES), device=panel.device)
    for first in range(0, size, _CODES):
        block = table.block(first)
        for start in range(0, len(panel), _ROWS):
            span = slice(start, start + _ROWS)
            rows = centred[span]
            part = room[: len(rows), : min(_CODES, size - first)]
            table.scores(rows, block, part)
            found = _argmin(part)[:, None]
            least = part.gather(1, found)[:, 0]
            runner = part.scatter_(1, found, torch.inf).amin(1)
            better = least < low[span]
            # the second smallest: the larger of both minima, or the runner-up of either part
            after[span] = torch.minimum(torch.maximum(least, low[span]), torch.minimum(runner, after[span]))
            low[span] = torch.minimum(least, low[span])
            indices[span] = torch.where(better, found[:, 0] + first, indices[span]) if first else found[:, 0]
    centred = centred[:, : panel.shape[1]]
    norm, rounding = torch.linalg.vector_norm(centred, dim=1), operand_rounding(panel.device)
    reach = margin(norm, table.longest, width=panel.shape[1], rounding=rounding)
    doubtful.copy_(~(after - low > reach) if exact else ~reach.isfinite())


def _argmin(scores: Tensor) -> Tensor:
    if scores.device.type != "cpu":
        return scores.argmin(1)
    return torch.from_numpy(scores.numpy().argmin(1))

"""How many rows the certificate leaves open, without a GPU: the screen's arithmetic in PyTorch, at full size.

    python -m benchmarks.device.crowding --rows 32768

Prints for each of the goals' tables, random and clustered rows, the share of rows that is compared with a few codes in
float64, and the share for which a slot of the table is searched. Rows do not depend on one another, so that a part of
them tells the share of all. A test compares the counts with the kernel's own.
"""

import argparse
import sys
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.device.rows import SHAPES, made
from codeprior.kernels.nearest_code.fused import Tiles, choose_tiles

_SAMPLE = 64  # codes whose mean is the centre, as in `prepared`
_ENTRIES = 6  # of a record, as in `certified`
_PART = 4096  # rows at a time


class Open(NamedTuple):
    """Counts of rows that the screen leaves open."""

    settled: int
    """Compared with a few codes."""
    crowded: int
    """Compared with slots of the table, or with all of it."""


def simulated(rows: Tensor, table: Tensor, tiles: Tiles) -> Open:
    """Gives how many rows are not certain.

    Args:
        rows: `(n, d)`, float32, finite.
        table: `(k, d)`, float32, finite.
        tiles: How the kernel cuts up the work; without a split.
    """
    step = -(-len(table) // _SAMPLE)
    centre = table[::step].mean(0)
    centred = table - centre
    scale = 2.0 ** centred.abs().max().log2().floor()
    centred = centred / scale
    low = centred.half().float()
    off = (centred - low).norm(dim=1) + 2.0**-24 * centred.norm(dim=1)
    half = centred.square().sum(1) / 2
    parts = [
        _open(part, part - centre, low, half, off.max(), scale=scale, table=table, tiles=tiles)
        for part in rows.split(_PART)
    ]
    return Open(*(sum(counts) for counts in zip(*parts, strict=True)))


def _open(
    raw: Tensor, rows: Tensor, codes: Tensor, half: Tensor, table_off: Tensor, *, scale: Tensor, table: Tensor,
    tiles: Tiles,
) -> Open:  # fmt: skip
    width, up = max(16, 1 << max(rows.shape[1] - 1, 0).bit_length()), 1 + 2.0**-10
    exponent = torch.maximum(rows.abs().amax(1).log2().floor(), scale.log2() - 10)
    rows, ratio = rows / 2.0 ** exponent[:, None], scale / 2.0**exponent
    low = rows.half().float()
    norm, off = low.norm(dim=1) * up, (rows - low).norm(dim=1) * up
    longest, table_off, tallest = codes.norm(dim=1).max() * up, table_off * up, half.max() * up
    gamma = (width + width // 8 + 4) * 2.0**-23
    bound = off * longest + norm * table_off + off * table_off + gamma * (norm * longest + tallest * ratio)
    bound = bound + 2.0**-23 * (norm + off) * longest + 2.0**-40
    blocks = -(-len(codes) // tiles.codes)
    scores = torch.full((len(rows), blocks * tiles.codes), 3e38)
    scores[:, : len(codes)] = half * ratio[:, None] - low @ codes.T
    scores = scores.view(len(rows), blocks, tiles.codes)
    group = torch.arange(tiles.codes)
    if tiles.group > 2:
        group = group // (4 * tiles.group) * 4 + group % 8 // 2
    else:
        group = group // tiles.group
    order = torch.argsort(group, stable=True)
    scores = scores[:, :, order].view(len(rows), blocks, -1, tiles.group).amin(3)
    bits = max(1, (blocks - 1).bit_length())
    packed = (scores.view(torch.int32) & ~((1 << bits) - 1)) | torch.arange(blocks, dtype=torch.int32)[:, None]
    kept = packed.view(torch.float32).topk(min(2, blocks), 1, largest=False).values
    best = kept[:, 0]
    second = kept[:, 1] if blocks > 1 else torch.full_like(best, torch.inf)
    least = best.amin(1)
    reach = least + 2 * bound
    reach = reach + 2.0 ** (bits - 22) * torch.maximum(least.abs(), reach.abs())
    within = best <= reach[:, None]
    both = within & (second <= reach[:, None])
    count = within.sum(1) + both.sum(1)
    sure = count == 1
    if tiles.group > 1:
        slot = best.argmin(1)
        tile = packed.view(torch.float32)[torch.arange(len(rows)), :, slot].argmin(1)
        members = order.view(-1, tiles.group)[slot] + (tile * tiles.codes)[:, None]
        found = (raw[:, None] - table[members.clamp(max=len(table) - 1)]).square().sum(-1)
        found = torch.where(members < len(table), found, torch.inf).topk(2, 1, largest=False).values
        sure &= found[:, 1] - found[:, 0] > (rows.shape[1] + 8) * 2.0**-23 * (found[:, 0] + found[:, 1])
    crowded = ~sure & ((both.any(1) & (blocks > 2)) | (count > _ENTRIES))
    return Open(int((~sure & ~crowded).sum()), int(crowded.sum()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=32768, help="of each problem, which has more")
    parser.add_argument("--room", type=int, default=227, help="KB of shared memory, which decides the tiles")
    given = parser.parse_args()
    for problem in SHAPES:
        if problem.rows <= 4096:
            continue
        tiles = choose_tiles(problem.rows, problem.codes, problem.width, room=(given.room - 1) * 1024)
        x, table = made(problem._replace(rows=min(given.rows, problem.rows)), "cpu")
        found = simulated(x, table, tiles)
        shares = ", ".join(f"{name} {100 * count / len(x):.3f} %" for name, count in found._asdict().items())
        print(f"{problem!s:28s} tile {tiles.rows}x{tiles.codes}, groups of {tiles.group}: {shares}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

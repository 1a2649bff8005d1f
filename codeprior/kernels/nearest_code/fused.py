"""The Triton lookup as registered ops: prepares the table, picks the tiles, launches `certified.certified_lookup`."""

import os
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.library import triton_op, wrap_triton

from codeprior.kernels.nearest_code.ops import fake_lookup, gradients, remember
from codeprior.kernels.nearest_code.settle import middle

_PART = 2**14  # codes that are prepared at a time
_FEW = 4096  # rows up to which the codes are split over programs


class Tiles(NamedTuple):
    """How the work is cut up; the indices do not depend on it."""

    rows: int
    codes: int
    group: int
    warps: int
    stages: int
    split: int


@triton_op("codeprior::nearest_code_triton", mutates_args=())
def nearest_code_triton(rows: Tensor, codebook: Tensor, impl: str, exact: bool) -> Tensor:
    """Indices `(b, s)` for rows `(b, s, d)`."""
    return launch(rows, codebook, exact=exact, write=False)[2]


@triton_op("codeprior::lookup_triton", mutates_args=())
def lookup_triton(rows: Tensor, codebook: Tensor, impl: str, exact: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Codes `(b, s, d)`, squared distances `(b, s)`, indices `(b, s)` and counts `(k,)` for rows `(b, s, d)`."""
    return launch(rows, codebook, exact=exact)


lookup_triton.register_autograd(gradients, setup_context=remember)


def launch(
    rows: Tensor,
    codebook: Tensor,
    *,
    exact: bool = True,
    write: bool = True,
    tiles: Tiles | None = None,
    told: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Runs the kernel.

    Args:
        rows: `(b, s, d)`, float32 or half precision, any strides, d at most 512.
        codebook: `(k, d)`.
        exact: Certify and settle; otherwise the float16 winner is taken.
        write: Fill in codes, distances and counts as well; they are empty otherwise.
        tiles: How to cut up the work; None decides by the sizes.
        told: Two int32 zeros that count the codes scored in float64 and the rows that needed the whole table.

    Returns:
        codes `(b, s, d)` in the rows' layout, distances `(b, s)`, indices `(b, s)`, counts `(k,)`.
    """
    from codeprior.kernels.nearest_code.certified import certified_lookup

    codebook = codebook.contiguous()
    batch, length, width = rows.shape
    size, count = len(codebook), batch * length
    shapes = fake_lookup(rows, codebook, "triton", exact)
    codes, distances, indices, _ = shapes if write else (rows.new_empty(0), rows.new_empty(0), *shapes[2:])
    counts = torch.zeros(size if write else 0, dtype=torch.int64, device=rows.device)
    if count == 0:
        return codes, distances, indices, counts
    centre, table, half, constants = prepare(codebook)
    tiles = tiles or choose_tiles(count, size, width, exact=exact)
    # parts are whole tiles, and none of them is empty
    blocks = _ceil(size, tiles.codes)
    chunk = _ceil(blocks, min(tiles.split, blocks)) * tiles.codes
    split, programs = _ceil(size, chunk), _ceil(count, tiles.rows)
    partial = torch.empty(split * count if split > 1 else 0, dtype=torch.float64, device=rows.device)
    partial_indices = torch.empty(partial.shape, dtype=torch.int32, device=rows.device)
    tickets = torch.zeros(programs if split > 1 else 0, dtype=torch.int32, device=rows.device)
    strides = codes.stride() if write else (0, 0, 0)
    kernel: Any = certified_lookup if os.environ.get("TRITON_INTERPRET") == "1" else wrap_triton(certified_lookup)
    kernel[(programs, split)](
        rows, codebook, table, half, centre, constants,
        indices, codes, distances, counts, partial, partial_indices, tickets, counts if told is None else told,
        count, length, *rows.stride(), *strides, size, chunk, width, 0,
        DP=max(16, _power_of_two(width)), BN=tiles.rows, BK=tiles.codes, GROUP=tiles.group if exact else 1,
        BITS=max(1, (_ceil(chunk, tiles.codes) - 1).bit_length()),
        SPLIT=split, EXACT=exact, WRITE=write, TELL=told is not None,
        num_warps=tiles.warps, num_stages=tiles.stages,
        # a fused multiply-add would change the order of equal float64 distances
        enable_fp_fusion=False,
    )  # fmt: skip
    return codes, distances, indices, counts


def prepare(codebook: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gives what the screen needs of a table, or of several at once, without a word between host and device.

    Args:
        codebook: `(k, d)`, or `(m, k, d)`; then everything below begins with `m`.

    Returns:
        The centre `(d,)`; the codes in float16, centred and scaled, `(k, d)`; |c|²/2 of the scaled codes, `(k,)`; and
        the scale, the largest norm, the largest rounding, and the largest |c|²/2, each rounded up, `(4,)`.
    """
    centre = middle(codebook)
    parts = codebook.split(_PART, -2)
    largest = torch.stack([(part.float() - centre[..., None, :]).abs().amax((-2, -1)) for part in parts]).amax(0)
    exponent = torch.frexp(largest).exponent - 1
    fit = (largest > 0) & largest.isfinite()
    scale = torch.where(fit, torch.ldexp(torch.ones_like(largest), torch.where(fit, exponent, 0)), 1.0)
    tables, halves, norms, roundings = [], [], [], []
    for part in parts:
        centred = (part.float() - centre[..., None, :]) / scale[..., None, None]
        table = centred.half()
        tables.append(table)
        halves.append(centred.square().sum(-1) / 2)
        norms.append(torch.linalg.vector_norm(table.float(), dim=-1).amax(-1))
        roundings.append(torch.linalg.vector_norm(centred - table.float(), dim=-1).amax(-1))
    half, norm = torch.cat(halves, -1), torch.stack(norms).amax(0)
    # the codes' own rounding to float32 when the centre was taken away
    rounding = torch.stack(roundings).amax(0) + 2.0**-24 * norm
    constants = torch.stack([scale, *((1 + 2.0**-10) * value for value in (norm, rounding, half.amax(-1)))], -1)
    return centre, torch.cat(tables, -2), half, constants


def choose_tiles(rows: int, codes: int, width: int, *, exact: bool = True) -> Tiles:
    """Gives the tiles for these sizes, from shared memory and registers of compute capability 9.0; not tuned on one."""
    padded = max(16, _power_of_two(width))
    if padded <= 16:
        tiles = Tiles(128, 256, 16, 8, 3, 1)
    elif padded <= 64:
        # wider tiles of codes spill in the loop
        tiles = Tiles(128, 128, 8, 8, 2, 1)
    elif padded <= 128:
        tiles = Tiles(128, 128, 4, 8, 2, 1)
    elif padded <= 256:
        tiles = Tiles(128, 64, 1, 8, 2, 1)
    else:
        tiles = Tiles(64, 64, 1, 8, 2, 1)
    if rows <= _FEW:
        tiles = tiles._replace(rows=64, codes=64, group=min(tiles.group, 8), warps=4)
        return tiles._replace(split=max(1, min(32, 128 // _ceil(rows, 64), codes // 64)))
    return tiles


def _ceil(count: int, size: int) -> int:
    return -(-count // size)


def _power_of_two(width: int) -> int:
    return 1 << max(width - 1, 0).bit_length()

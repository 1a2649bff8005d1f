"""The lookup for CPUs with a C++ compiler: screen.cpp, compiled on first use and kept in the user's cache.

Where it cannot be compiled the plain blocks run instead, and `explain` says why.

The screen is a matrix product whose tiles are reduced while they are in registers, so that no score is ever stored. Its
rounding is bounded per row; rows whose runner-up is within the bound are settled in float64.
"""

import ctypes
import functools
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from codeprior.kernels import _compile
from codeprior.kernels._choose import ImplUnavailable
from codeprior.kernels.nearest_code.settle import margin, middle, settle

_SOURCE = Path(__file__).with_name("screen.cpp")
_FLAGS = ("-ffinite-math-only", "-fno-signed-zeros")
_PACKED = 2**21  # floats of the table that are packed at a time: 8 MB
_PANEL = 2**18  # floats of rows that are converted at a time, where they are not float32: 1 MB
_CROWDED = 32  # candidates per row from which codes are first rid of their duplicates
_THREADED = 2**24  # multiplications from which threads pay
_LARGEST = torch.finfo(torch.float32).max


def why_not_compiled(*, small: bool = False) -> str | None:
    """Gives the reason why the compiled lookup cannot run here, or None; compiles it where that pays.

    Args:
        small: The problem at hand is done sooner than the compiler.
    """
    if small and not _compile.is_compiled(_SOURCE, *_FLAGS):
        return "it has not been compiled yet, and so small a problem does not pay for that"
    found = _compile.compiled(_SOURCE, *_FLAGS)
    return found if isinstance(found, str) else None


def nearest_rows(rows: Tensor, codebook: Tensor, *, exact: bool = True) -> Tensor:
    """Gives the index of the nearest code for each row.

    Args:
        rows: `(b, s, d)` on the CPU, any floating type, any strides.
        codebook: `(k, d)`.
        exact: Settle near ties in float64.

    Returns:
        `(b, s)`, int64.
    """
    batch, length, width = rows.shape
    found = _Found(
        low=torch.full((batch, length), _LARGEST),
        after=torch.full((batch, length), _LARGEST),
        indices=torch.zeros(batch, length, dtype=torch.int64),
        norm=torch.zeros(batch, length),
    )
    codes = _Codes(codebook)
    for table in codes:
        _screen(rows, codes.centre, table, found)
    if not exact:
        # what a sum that is not finite has chosen may be no code at all
        return found.indices.masked_fill_(~found.norm.isfinite(), 0).clamp_(max=len(codebook) - 1)
    _settle(rows, codes, found, reach=margin(found.norm, codes.longest, width=width))
    return found.indices


def exchange(rows: Tensor, codebook: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """Gives each row's code in the rows' layout, and their squared distance; all float32.

    Args:
        rows: `(b, s, d)`, any strides.
        codebook: `(k, d)`.
        indices: `(b, s)`.
    """
    codes, distances = torch.empty_like(rows), torch.empty(rows.shape[:2])
    table, width = codebook.contiguous(), rows.shape[2]
    for image, chosen in enumerate(indices.contiguous()):
        _library().exchange(
            _at(rows[image]), rows.shape[1], width, *rows.stride()[1:], _at(table), _at(chosen), _at(codes[image]),
            *codes.stride()[1:], _at(distances[image]),
        )  # fmt: skip
    return codes, distances


class _Table(NamedTuple):
    packed: Tensor
    half: Tensor
    tiles: int
    first: int


class _Found(NamedTuple):
    low: Tensor
    after: Tensor
    indices: Tensor
    norm: Tensor


class _Codes:
    """The codebook, centred and packed a part at a time; kept where one part is all."""

    def __init__(self, codebook: Tensor):
        self.codebook, self.centre = codebook, middle(codebook)
        self.lanes = _library().tile_width(codebook.shape[1])
        self.step = max(1, _PACKED // (codebook.shape[1] * self.lanes)) * self.lanes
        self.longest = torch.zeros(())
        self._only: _Table | None = None

    def __iter__(self) -> Iterator[_Table]:
        for first in range(0, len(self.codebook), self.step):
            table = self._only or self._pack(first)
            self._only = table if self.step >= len(self.codebook) else None
            self.longest = torch.maximum(self.longest, (2 * table.half[: len(self.codebook) - first].max()).sqrt())
            yield table

    def _pack(self, first: int) -> _Table:
        part, about = _single(self.codebook[first : first + self.step], self.centre)
        part, width = part.contiguous(), part.shape[1]
        tiles = math.ceil(len(part) / self.lanes)
        packed, half = _aligned(tiles * width * self.lanes), _aligned(tiles * self.lanes)
        _library().pack_codes(_at(part), _at(about), len(part), width, _at(packed), _at(half))
        return _Table(packed, half, tiles, first)


def _settle(rows: Tensor, codes: _Codes, found: _Found, *, reach: Tensor) -> None:
    """Settles near ties in float64: here the rows that can be scored again, unless too many codes are near."""
    if torch.float64 in (rows.dtype, codes.codebook.dtype):
        settle(rows, codes.codebook, found.indices, doubtful=~(found.after - found.low > reach))
        return
    which, limit = torch.empty_like(found.indices), torch.empty_like(reach)
    lost, losses = torch.empty(reach.shape, dtype=torch.bool), torch.empty((), dtype=torch.int64)
    count = _library().near_ties(
        _at(found.low), _at(found.after), _at(reach), reach.numel(), _at(which), _at(limit), _at(lost), _at(losses)
    )
    which, limit = which.view(-1)[:count], limit.view(-1)[:count]
    indices = _settled(rows[which // rows.shape[1], which % rows.shape[1]].float(), codes, limit) if count else None
    if indices is not None:
        found.indices.view(-1)[which] = indices
    elif count:
        lost.view(-1)[which] = True
    if losses or (indices is None and count):
        settle(rows, codes.codebook, found.indices, doubtful=lost)


def _settled(rows: Tensor, codes: _Codes, limit: Tensor) -> Tensor | None:
    count, width = rows.shape
    table = codes.codebook.float().contiguous()
    nearest = torch.full((count,), torch.finfo(torch.float64).max, dtype=torch.float64)
    indices, which = torch.zeros(count, dtype=torch.int64), torch.arange(count)
    room = torch.empty(_library().scratch_floats(width))
    for part in codes:
        compared = _library().settle(
            _at(rows), _at(which), count, width, *rows.stride(), _at(codes.centre), _at(part.packed), _at(part.half),
            part.tiles, part.first, _at(table), len(table), _at(limit), _at(nearest), _at(indices), _CROWDED * count,
            _at(room),
        )  # fmt: skip
        if compared < 0:
            return None
    return indices


def _screen(rows: Tensor, centre: Tensor, table: _Table, found: _Found) -> None:
    multiplications = rows.numel() * len(table.half)
    threads = torch.get_num_threads() if multiplications > _THREADED else 1
    work = []
    for image in range(len(rows)):
        step = max(1, math.ceil(rows.shape[1] / math.ceil(threads / len(rows))))
        for start in range(0, rows.shape[1], step):
            span = slice(start, start + step)
            work.append((rows[image, span], _Found(*(tensor[image, span] for tensor in found))))

    def take(share: int) -> None:
        for part, into in work[share::threads]:
            _screen_rows(part, centre, table, into)

    helpers = [threading.Thread(target=take, args=(share,)) for share in range(1, threads)]
    for helper in helpers:
        helper.start()
    take(0)
    for helper in helpers:
        helper.join()


def _screen_rows(rows: Tensor, centre: Tensor, table: _Table, found: _Found) -> None:
    width = rows.shape[1]
    scratch = torch.empty(_library().scratch_floats(width))
    step = len(rows) if rows.dtype == torch.float32 else max(1, _PANEL // width)
    for start in range(0, len(rows), max(1, step)):
        part, about = _single(rows[start : start + step], centre)
        low, after, indices, norm = (tensor[start : start + step] for tensor in found)
        _library().screen(
            _at(part), len(part), width, part.stride(0), part.stride(1), _at(about), _at(table.packed),
            _at(table.half), table.tiles, table.first, _at(low), _at(after), _at(indices), _at(norm), _at(scratch),
        )  # fmt: skip


def _single(rows: Tensor, centre: Tensor) -> tuple[Tensor, Tensor]:
    """Rows in float32 and the centre that is still to be taken away; float64 is rounded after its centre is gone."""
    if rows.dtype == torch.float64:
        return (rows - centre).float(), torch.zeros_like(centre)
    return rows.float(), centre


def _at(tensor: Tensor) -> int:
    return tensor.data_ptr()


def _aligned(count: int) -> Tensor:
    """Uninitialised float32 memory on a border of 64 bytes."""
    room = torch.empty(count + 16)
    return room[(-(room.data_ptr() // 4)) % 16 :][:count]


@functools.cache
def _bound(library: ctypes.CDLL) -> ctypes.CDLL:
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    library.tile_width.restype = library.scratch_floats.restype = library.settle.restype = count
    library.tile_width.argtypes = library.scratch_floats.argtypes = [count]
    library.pack_codes.argtypes = [pointer, pointer, count, count, pointer, pointer]
    library.pack_codes.restype = library.screen.restype = library.exchange.restype = None
    library.screen.argtypes = [pointer, *[count] * 4, *[pointer] * 3, *[count] * 2, *[pointer] * 5]
    library.near_ties.argtypes, library.near_ties.restype = [*[pointer] * 3, count, *[pointer] * 4], count
    library.exchange.argtypes = [pointer, *[count] * 4, *[pointer] * 3, *[count] * 2, pointer]
    library.settle.argtypes = [
        *[pointer] * 2, *[count] * 4, *[pointer] * 3, *[count] * 2, pointer, count, *[pointer] * 3, count, pointer
    ]  # fmt: skip
    return library


def _library() -> ctypes.CDLL:
    found = _compile.compiled(_SOURCE, *_FLAGS)
    if isinstance(found, str):
        raise ImplUnavailable(f"nearest_code: the compiled lookup cannot run here: {found}.")
    return _bound(found)

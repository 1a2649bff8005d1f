"""The lookup for CPUs in C++: lookup.cpp, from a wheel or compiled on first use.

Where neither is possible `blocked` runs instead, and `explain` says why.

The screen is a matrix product whose tiles are reduced while they are in registers, so that no score is ever stored. Its
rounding is bounded per row; rows whose runner-up is within the bound are settled in float64.
"""

import ctypes
import functools

import torch
from einops import rearrange
from torch import Tensor

from codeprior.kernels import _compile
from codeprior.kernels.nearest_code.settle import settle

_KINDS = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
_THREADED = 2**24  # multiplications from which threads save time


def nearest_rows(rows: Tensor, codebook: Tensor, *, exact: bool = True) -> Tensor:
    """Gives the index of the nearest code for each row.

    Args:
        rows: `(b, s, d)` on the CPU, float32 or half precision, any strides.
        codebook: `(k, d)`, float32 or half precision.
        exact: Settle near ties in float64.

    Returns:
        `(b, s)`, int64.
    """
    if rows.is_contiguous() and len(rows) > 1:
        return nearest_rows(rearrange(rows, "b s d -> 1 (b s) d"), codebook, exact=exact).view(rows.shape[:2])
    table = codebook.float().contiguous()
    indices = torch.empty(rows.shape[:2], dtype=torch.int64)
    lost = torch.empty(rows.shape[:2], dtype=torch.bool)
    threads = torch.get_num_threads() if rows.numel() * len(table) > _THREADED else 1
    losses = _library().nearest(
        rows.data_ptr(), _KINDS[rows.dtype], *rows.shape, *rows.stride(), table.data_ptr(), len(table), exact, threads,
        indices.data_ptr(), lost.data_ptr(),
    )  # fmt: skip
    if losses < 0:
        raise MemoryError(f"nearest_code: no memory for a table of {tuple(table.shape)}.")
    if losses:
        # the bound holds for float32 products, which autocast would compute in half precision
        with torch.autocast("cpu", enabled=False):
            settle(rows, codebook, indices, doubtful=lost)
    return indices


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
            rows[image].data_ptr(), rows.shape[1], width, *rows.stride()[1:], table.data_ptr(), chosen.data_ptr(),
            codes[image].data_ptr(), *codes.stride()[1:], distances[image].data_ptr(),
        )  # fmt: skip
    return codes, distances


@functools.cache
def _bound(library: ctypes.CDLL) -> ctypes.CDLL:
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    library.nearest.argtypes = [pointer, *[count] * 7, pointer, *[count] * 3, pointer, pointer]
    library.nearest.restype = count
    library.exchange.argtypes = [pointer, *[count] * 4, *[pointer] * 3, *[count] * 2, pointer]
    library.exchange.restype = None
    return library


def _library() -> ctypes.CDLL:
    return _bound(_compile.library("nearest_code"))

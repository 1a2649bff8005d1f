"""Counts and sums by code for CPUs in C++: stats.cpp, from a wheel or compiled on first use.

The result equals the reference's bit for bit: each code's rows are added in their order, in the type of the sum.
"""

import ctypes
import functools

import torch
from torch import Tensor

from codeprior.kernels import _compile

_THREADED = 2**20  # elements from which threads save time


def code_sums(rows: Tensor, indices: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Gives how many rows chose each code, and the sum of those rows.

    Args:
        rows: `(b, s, d)` on the CPU, any floating type, any strides.
        indices: `(b s,)`, int64 in [0, size).
        size: Count of codes.

    Returns:
        Counts `(size,)`, int64, and sums `(size, d)`, float32 (float64 for float64 rows).

    Raises:
        RuntimeError: An index is no code, as in the reference.
    """
    wide = rows.dtype == torch.float64
    rows, indices = rows if wide else rows.float(), indices.contiguous()
    counts, sums = torch.empty(size, dtype=torch.int64), torch.empty(size, rows.shape[2], dtype=rows.dtype)
    threads = torch.get_num_threads() if rows.numel() > _THREADED else 1
    stray = _library().stats(
        rows.data_ptr(), wide, *rows.shape, *rows.stride(), indices.data_ptr(), size, threads, counts.data_ptr(),
        sums.data_ptr(),
    )  # fmt: skip
    if stray >= 0:
        raise RuntimeError(f"code_stats: expected indices in [0, {size}), got {int(indices[stray])}.")
    return counts, sums


@functools.cache
def _bound(library: ctypes.CDLL) -> ctypes.CDLL:
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    library.stats.argtypes = [pointer, *[count] * 7, pointer, *[count] * 2, *[pointer] * 2]
    library.stats.restype = count
    return library


def _library() -> ctypes.CDLL:
    return _bound(_compile.library("code_stats"))

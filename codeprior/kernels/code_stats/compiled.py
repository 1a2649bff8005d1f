"""Counts and sums by code for CPUs with a C++ compiler: stats.cpp, compiled on first use and kept in the user's cache.

To the bit the reference's: each code's rows are added in their order, in the type of the sum.
"""

import ctypes
import functools
from pathlib import Path

import torch
from torch import Tensor

from codeprior.kernels import _compile
from codeprior.kernels._choose import ImplUnavailable

_SOURCE = Path(__file__).with_name("stats.cpp")
_FLAGS = ("-pthread",)
_THREADED = 2**20  # numbers from which threads pay


def why_not_compiled(*, small: bool = False) -> str | None:
    """Gives the reason why the compiled sums cannot run here, or None; compiles them where that pays.

    Args:
        small: The problem at hand is done sooner than the compiler.
    """
    return _compile.why_not(_SOURCE, *_FLAGS, small=small)


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
def _library() -> ctypes.CDLL:
    found = _compile.compiled(_SOURCE, *_FLAGS)
    if isinstance(found, str):
        raise ImplUnavailable(f"code_stats: the compiled sums cannot run here: {found}.")
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    found.stats.argtypes = [pointer, *[count] * 7, pointer, *[count] * 2, *[pointer] * 2]
    found.stats.restype = count
    return found

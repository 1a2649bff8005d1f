"""The public counts and sums by code."""

from typing import NamedTuple

import torch
from torch import Tensor

from codeprior.kernels._choose import choose
from codeprior.kernels._layout import as_rows
from codeprior.kernels.code_stats.ops import code_stats_op

_SMALL = 2**18  # elements, for which every implementation takes less than a millisecond


class CodeStats(NamedTuple):
    """What `code_stats` gives."""

    counts: Tensor
    """How many vectors chose each code, `(k,)`, int64."""
    sums: Tensor
    """The sum of those vectors, `(k, d)`, float32 (float64 for float64)."""


def code_stats(latent: Tensor, indices: Tensor, *, size: int, impl: str | None = None) -> CodeStats:
    """Gives how many vectors chose each code and the sum of those vectors, the same at every run.

    Both the gradient of a codebook and moving averages are computed from these. The vectors of a code are added in
    their order, on a GPU after sorting by code; no float is added atomically.

    Args:
        latent: `(n, d)`, `(b, t, d)` or `(b, d, h, w)`, any floating type.
        indices: int64 in [0, size), `(n,)`, `(b, t)` or `(b, h, w)`.
        size: Count of codes.
        impl: Implementation by name; None chooses (see `explain`).

    Returns:
        counts: `(size,)`, int64.
        sums: `(size, d)`, float32 (float64 for float64), without a gradient.

    Raises:
        ValueError: There is not one index for each vector.
        ImplUnavailable: The implementation asked for by name cannot run here.
    """
    rows = as_rows(latent.detach())
    if indices.numel() != rows.shape[0] * rows.shape[1]:
        raise ValueError(
            f"code_stats: expected an index for each vector, got indices {tuple(indices.shape)} for a latent "
            f"{tuple(latent.shape)}."
        )
    unfit: dict[str, str] = {}
    if latent.dtype == torch.float64:
        unfit["triton"] = "it sums in float32, not float64"
    if indices.dtype != torch.int64:
        unfit["compiled"] = "it reads int64 indices"
    # while tracing the sizes are symbols, and a compiler runs anyway
    small = not torch.compiler.is_compiling() and rows.numel() < _SMALL
    name = choose("code_stats", impl, str(rows.device), unfit=unfit, small=small)
    if name == "triton":
        from codeprior.kernels.code_stats.fused import code_stats_triton

        return CodeStats(*code_stats_triton(rows.flatten(0, 1), indices.flatten(), size))
    return CodeStats(*code_stats_op(rows, indices.flatten(), size, name))

"""Counts and sums by code as registered ops."""

import torch
from torch import Tensor

from codeprior.kernels.code_stats.reference import code_sums


@torch.library.custom_op("codeprior::code_stats", mutates_args=())
def code_stats_op(rows: Tensor, indices: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Counts `(size,)` and sums `(size, d)` of rows `(n, d)` by code."""
    return code_sums(rows, indices, size)


@code_stats_op.register_fake
def fake_stats(rows: Tensor, indices: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Shapes of what `code_stats_op` gives."""
    wide = torch.promote_types(rows.dtype, torch.float32)
    return rows.new_empty((size,), dtype=torch.int64), rows.new_empty((size, rows.shape[1]), dtype=wide)

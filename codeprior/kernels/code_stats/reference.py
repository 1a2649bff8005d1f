"""Counts and sums by code in plain PyTorch: rows sorted by code, then summed segment by segment in the order of rows.

No float is added atomically, so that the result is the same at every run, on every device.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def code_sums(rows: Tensor, indices: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Gives how many rows chose each code, and the sum of those rows.

    Args:
        rows: `(n, d)`, any floating type.
        indices: `(n,)`, int64 in [0, size).
        size: Count of codes.

    Returns:
        Counts `(size,)`, int64, and sums `(size, d)`, float32 (float64 for float64 rows).
    """
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32)).contiguous()
    if rows.device.type == "cpu":
        # on the CPU `index_add_` adds row after row
        sums = rows.new_zeros(size, rows.shape[1]).index_add_(0, indices, rows)
        return torch.bincount(indices, minlength=size), sums
    counts = torch.zeros(size, dtype=torch.int64, device=rows.device)
    counts = counts.scatter_add(0, indices, torch.ones_like(indices))
    order = torch.argsort(indices, stable=True)
    return counts, F.embedding_bag(order, rows, counts.cumsum(0) - counts, mode="sum")

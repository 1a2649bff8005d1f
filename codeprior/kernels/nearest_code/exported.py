"""The lookup in PyTorch's own operators, for graphs that are exported and run where this library is not.

It gives the lowest index among the nearest codes, by distances in the rows' own precision; a row that is not finite
gets index 0, but its codes are not set to NaN.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

_CANDIDATES = 4  # codes whose distance is computed once more, difference by difference


def nearest_rows(rows: Tensor, codebook: Tensor) -> Tensor:
    """Gives the index of the nearest code for each row.

    A matrix product finds the few codes that come near. It loses digits where rows and codes are far from zero, so for
    those few the distance is computed once more, from the differences.

    Args:
        rows: `(b, s, d)`.
        codebook: `(k, d)`.

    Returns:
        `(b, s)`, int64.
    """
    table = codebook.to(rows.dtype)
    scores = table.square().sum(-1) - 2 * rows @ table.mT
    near = scores.topk(min(_CANDIDATES, len(codebook)), dim=-1, largest=False).indices
    distances = (rows[:, :, None] - F.embedding(near, table)).square().sum(-1)
    lowest = distances == distances.amin(-1, keepdim=True)
    return torch.where(lowest, near, len(codebook)).amin(-1).remainder(len(codebook))


def exchange(rows: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gives codes `(b, s, d)`, squared distances `(b, s)`, indices `(b, s)` and counts `(k,)`.

    Args:
        rows: `(b, s, d)`.
        codebook: `(k, d)`.
    """
    indices = nearest_rows(rows, codebook)
    codes = F.embedding(indices, codebook.to(rows.dtype))
    flat = indices.reshape(-1)
    counts = torch.zeros(len(codebook), dtype=torch.int64, device=rows.device)
    return codes, (rows - codes).square().sum(-1), indices, counts.scatter_add(0, flat, torch.ones_like(flat))

"""How a codebook is used: counts by code, and the perplexity of those counts."""

import torch
from torch import Tensor


def usage(indices: Tensor, size: int) -> Tensor:
    """Gives how often each code was chosen.

    Args:
        indices: Integers in [0, size), any shape.
        size: Count of codes in the table.

    Returns:
        `(size,)`, int64.
    """
    counts = torch.zeros(size, dtype=torch.int64, device=indices.device)
    flat = indices.reshape(-1).long()
    return counts.scatter_add(0, flat, torch.ones_like(flat))


def perplexity(counts: Tensor) -> Tensor:
    """Gives the perplexity of the codes' use: the count of codes that would carry as much if used evenly.

    exp(−Σ p log p), with p the share of each code.

    Args:
        counts: `(k,)`, as `usage` gives them; sums of several batches or ranks are welcome.

    Returns:
        Scalar float32 in [1, k]; 1 where nothing was counted.
    """
    share = counts.double() / counts.sum().clamp(min=1)
    return torch.exp(-torch.special.xlogy(share, share).sum()).float()

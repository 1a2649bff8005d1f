"""How a codebook is used: counts by code, and the perplexity of those counts."""

import torch
from torch import Tensor, nn


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
        counts: `(k,)`, as `usage` gives them, or their sum over batches and ranks.

    Returns:
        Scalar float32 in [1, k]; 1 where nothing was counted.
    """
    share = counts.double() / counts.sum().clamp(min=1)
    return torch.exp(-torch.special.xlogy(share, share).sum()).float()


class UsageMeter(nn.Module):
    """Counts the use of codes over many batches: one batch has too few vectors to say which codes are in use.

    Args:
        size: Count of codes of a table.
        tables: Count of tables, for residual or grouped codebooks.
        memory: How many batches the counts remember: each update keeps `1 − 1/memory` of them.

    Attributes:
        counts: `(tables, size)` buffer, float32; each code's counts in past batches, summed with weights that fade.
    """

    counts: Tensor
    begins_anew = True  # a statistic: a checkpoint that lacks it can be resumed from

    def __init__(self, size: int, *, tables: int = 1, memory: int = 200):
        super().__init__()
        self.size, self.tables, self.memory = size, tables, memory
        self.register_buffer("counts", torch.zeros(tables, size))

    @torch.no_grad()
    def add(self, counts: Tensor) -> None:
        """Adds the counts of one batch, `(tables, size)`, as `usage` gives them for each table."""
        self.counts.mul_(1 - 1 / self.memory).add_(counts)

    @torch.no_grad()
    def forgive(self, dead: Tensor) -> None:
        """Sets the counts of codes that were just revived, `(tables, size)`, to the mean of their table.

        A revived code then counts as dead again only after this count has faded.
        """
        self.counts.copy_(torch.where(dead, self.counts.mean(1, keepdim=True), self.counts))

    def figures(self) -> dict[str, Tensor]:
        """Gives `perplexity` and `codes_used`, the share of codes in use; with several tables, the smallest of each.

        A code is in use if it was chosen at least once in about the last `memory` batches.
        """
        # one choice fades to 1/e within the memory
        used = (self.counts > 0.36).double().mean(1)
        return {"perplexity": torch.stack([perplexity(one) for one in self.counts]).amin(), "codes_used": used.amin()}

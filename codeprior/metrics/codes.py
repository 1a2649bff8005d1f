"""What the codes themselves say: how many were predicted right, and how much of the codebook is in use."""

from typing import NamedTuple

import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor

from codeprior.shapes import Indices, Logits


class CodebookUsage(NamedTuple):
    """How a codebook is used by a set of images.

    Attributes:
        used: Codes that occur at least once.
        share: `used / size`, in (0, 1].
        perplexity: `exp(entropy)` of the code frequencies: the size of an evenly used codebook of the same entropy.
    """

    used: int
    share: float
    perplexity: float


def code_accuracy(logits: Logits, indices: Indices, *, top: int = 1) -> Float[Tensor, " b"]:
    """Gives the share of grid places of each image whose true code is among the best `top`.

    Args:
        logits: Scores of the codes, `b h w k`.
        indices: True codes, `b h w`.
        top: How many of the best scores count, 1 … k.

    Returns:
        Shares in [0, 1], one per image.

    Raises:
        ValueError: The grids differ, or `top` is outside 1 … k.
    """
    if logits.ndim != 4 or logits.shape[:-1] != indices.shape:
        raise ValueError(
            f"code_accuracy: expected logits b h w k and indices b h w of one grid, got {tuple(logits.shape)} and "
            f"{tuple(indices.shape)}."
        )
    if not 1 <= top <= logits.shape[-1]:
        raise ValueError(f"code_accuracy: expected top within 1 … {logits.shape[-1]}, the codes, got {top}.")
    hits = (logits.topk(top, dim=-1).indices == rearrange(indices, "b h w -> b h w 1")).any(-1)
    return reduce(hits.float(), "b h w -> b", "mean")


def codebook_usage(indices: Indices, size: int) -> CodebookUsage:
    """Gives how many codes of a codebook a set of images uses, and how evenly.

    Args:
        indices: Codes of the images, any shape, 0 … size − 1.
        size: Rows of the codebook.

    Raises:
        ValueError: There are no indices, or one is outside the codebook.
    """
    if indices.numel() == 0:
        raise ValueError("codebook_usage: expected at least one index, got none.")
    if indices.min() < 0 or indices.max() >= size:
        raise ValueError(
            f"codebook_usage: expected indices within 0 … {size - 1}, got {int(indices.min())} … {int(indices.max())}."
        )
    counts = torch.bincount(rearrange(indices, "... -> (...)"), minlength=size).double()
    frequency = counts / counts.sum()
    used = int((counts > 0).sum())
    return CodebookUsage(used, used / size, float(torch.special.entr(frequency).sum().exp()))

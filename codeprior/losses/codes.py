"""How well predicted logits agree with the true codes: cross-entropy as a loss, accuracy as a figure."""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from codeprior.shapes import Indices, Logits, ManyIndices, ManyLogits


def code_loss(
    logits: Logits | ManyLogits, indices: Indices | ManyIndices, *, label_smoothing: float = 0.0
) -> Float[Tensor, ""]:
    """Gives the mean cross-entropy of the logits against the true codes, in nats a token.

    Args:
        logits: Scores of every code, `b h w k`; of several tables `b m h w k`.
        indices: The true codes, `b h w` or `b m h w`, integers in [0, k).
        label_smoothing: Share of the target that is spread evenly over all codes, in [0, 1].

    Returns:
        The loss, a mean over all tokens, and over the tables where there are several.

    Raises:
        TypeError: The indices are no integers.
        ValueError: The grids differ.

    Source:
        DAEFR stage 3 (logged there as "BCE") and CodeFormer stage II, both without smoothing.
    """
    _same_grid("code_loss", logits, indices)
    return F.cross_entropy(
        rearrange(logits, "... k -> (...) k"),
        rearrange(indices, "... -> (...)").long(),
        label_smoothing=label_smoothing,
    )


def code_accuracy(logits: Logits | ManyLogits, indices: Indices | ManyIndices) -> Float[Tensor, ""]:
    """Gives the share of tokens whose largest logit stands at the true code, in [0, 1], without a gradient.

    Args:
        logits: Scores of every code, `b h w k`; of several tables `b m h w k`.
        indices: The true codes, `b h w` or `b m h w`.

    Raises:
        TypeError: The indices are no integers.
        ValueError: The grids differ.
    """
    _same_grid("code_accuracy", logits, indices)
    return (logits.detach().argmax(-1) == indices).float().mean()


def _same_grid(who: str, logits: Tensor, indices: Tensor) -> None:
    if indices.is_floating_point() or indices.dtype == torch.bool:
        raise TypeError(f"{who}: expected indices as integers, got {indices.dtype}; the numbers of codes, not codes.")
    if logits.shape[:-1] != indices.shape:
        raise ValueError(
            f"{who}: expected logits b h w k and indices b h w on one grid, or b m h w k and b m h w, got "
            f"{tuple(logits.shape)} and {tuple(indices.shape)}."
        )

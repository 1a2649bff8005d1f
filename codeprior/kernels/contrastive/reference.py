"""The meaning of the symmetric cross-entropy, with the n x n matrix written out."""

import torch
from torch import Tensor
from torch.nn import functional as F


def symmetric_cross_entropy_reference(first: Tensor, second: Tensor, scale: Tensor) -> Tensor:
    """Gives the mean of the cross-entropies along rows and columns of `scale · first secondᵀ`, targets on the diagonal.

    Args:
        first: `(n, d)`.
        second: `(n, d)`.
        scale: Scalar.
    """
    wide = torch.promote_types(first.dtype, torch.float32)
    logits = scale.to(wide) * first.to(wide) @ second.to(wide).T
    target = torch.arange(len(first), device=first.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2

"""How a gradient passes quantisation, which has no gradient itself: straight through, or by rotation."""

from typing import Literal

import torch
from torch import Tensor

Passage = Literal["straight_through", "rotation"]


def straight_through(latent: Tensor, codes: Tensor) -> Tensor:
    """Gives the codes, bit for bit, with the gradient of the latent.

    Args:
        latent: What was quantised.
        codes: What it was exchanged for, same shape.

    Returns:
        Same shape, in new memory. Source: van den Oord et al. 2017, section 3.2; not the usual
        latent + (codes − latent), which rounds.
    """
    return _StraightThrough.apply(latent, codes.detach())


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx, latent: Tensor, codes: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return codes.clone()

    @staticmethod
    def backward(ctx, slope: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return slope, None


def rotate(latent: Tensor, codes: Tensor, *, dim: int = 1) -> Tensor:
    """Gives the codes, with the gradient rotated and scaled from each code back to its vector.

    The result is |c| / |x| R x, where R is the rotation that takes x / |x| to c / |c|; R and |c| / |x| count as
    constants in the backward pass.

    Args:
        latent: What was quantised.
        codes: What it was exchanged for, same shape.
        dim: The axis of a vector.

    Returns:
        Same shape. Source: Fifty et al. 2024 (the rotation trick), section 4.2.
    """
    with torch.no_grad():
        length = torch.linalg.vector_norm(latent, dim=dim, keepdim=True).clamp(min=1e-6)
        other = torch.linalg.vector_norm(codes, dim=dim, keepdim=True).clamp(min=1e-6)
        start, end = latent / length, codes / other
        middle = start + end
        middle = middle / torch.linalg.vector_norm(middle, dim=dim, keepdim=True).clamp(min=1e-6)
        scale = other / length
    turned = latent - 2 * middle * (middle * latent).sum(dim, keepdim=True)
    turned = scale * (turned + 2 * end * (start * latent).sum(dim, keepdim=True))
    return straight_through(turned, codes)


def pass_gradient(latent: Tensor, codes: Tensor, *, how: Passage) -> Tensor:
    """Gives the codes `b d h w` with the gradient that `how` names.

    Raises:
        ValueError: `how` is unknown.
    """
    if how == "straight_through":
        return straight_through(latent, codes)
    if how == "rotation":
        return rotate(latent, codes)
    raise ValueError(f"codebook: expected gradient 'straight_through' or 'rotation', got {how!r}.")

"""The public symmetric cross-entropy: checks, chooses an implementation, and knows its gradient."""

import torch
from torch import Tensor

from codeprior.kernels._choose import choose
from codeprior.kernels.contrastive import blocked
from codeprior.kernels.contrastive._gradient import gradients, remember
from codeprior.kernels.contrastive.reference import symmetric_cross_entropy_reference


def symmetric_cross_entropy(first: Tensor, second: Tensor, *, scale: float | Tensor, impl: str | None = None) -> Tensor:
    """Gives how well each row of one side finds its match on the other, without the n x n matrix.

    The mean of the cross-entropies along rows and columns of L = scale · first secondᵀ, with the diagonal as target:
    loss = mean over i of (log Σ_j exp L_ij + log Σ_j exp L_ji) / 2 − L_ii.

    Args:
        first: `(n, d)`, any floating type; usually of unit length, which is left to the caller.
        second: `(n, d)`, same type and device.
        scale: What multiplies the similarities, the inverse temperature; a scalar tensor gets a gradient.
        impl: Implementation by name; None chooses (see `explain`).

    Returns:
        Scalar, float32 (float64 for float64).

    Raises:
        ValueError: The two sides are not two non-empty `(n, d)` of one shape.
        ImplUnavailable: The implementation asked for by name cannot run here.

    Note:
        For negatives of all ranks see `gathered_cross_entropy`.

    Source: Radford et al. 2021, figure 3.
    """
    unfit = why_unfit("symmetric_cross_entropy", first, second)
    scale = as_scale(scale, first)
    name = choose("contrastive", impl, str(first.device), unfit=unfit)
    if name == "reference":
        return symmetric_cross_entropy_reference(first, second, scale)
    if name == "triton":
        from codeprior.kernels.contrastive import fused

        return fused.forward(first, second, scale)[0]
    return forward_op(first, second, scale)[0]


def as_scale(scale: float | Tensor, like: Tensor) -> Tensor:
    """Gives the scale as a scalar tensor; a number is filled in on the device, as a captured graph needs it."""
    wide = torch.promote_types(like.dtype, torch.float32)
    if isinstance(scale, Tensor):
        return scale.to(device=like.device, dtype=wide)
    return torch.full((), scale, dtype=wide, device=like.device)


def why_unfit(op: str, first: Tensor, second: Tensor) -> dict[str, str]:
    """Gives why the Triton kernels cannot read these sides, by implementation; raises where none can."""
    if first.ndim != 2 or first.shape != second.shape or first.numel() == 0:
        raise ValueError(
            f"{op}: expected two sides of one shape (n, d), not empty, got {tuple(first.shape)} and "
            f"{tuple(second.shape)}."
        )
    if first.dtype == torch.float64:
        return {"triton": "it multiplies float32 and half precision, not float64"}
    return {"triton": "its rows are at most 512 wide"} if first.shape[1] > 512 else {}


@torch.library.custom_op("codeprior::symmetric_cross_entropy", mutates_args=())
def forward_op(first: Tensor, second: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The loss, and the log-sum-exp of each row and column."""
    # autocast would take the products in half precision
    with torch.autocast(first.device.type, enabled=False):
        return blocked.forward(first, second, scale)


@forward_op.register_fake
def _(first: Tensor, second: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    wide = torch.promote_types(first.dtype, torch.float32)
    rows, columns = (first.new_empty(first.shape[:1], dtype=wide) for _ in range(2))
    return first.new_empty((), dtype=wide), rows, columns


@torch.library.custom_op("codeprior::symmetric_cross_entropy_backward", mutates_args=())
def backward_op(
    first: Tensor, second: Tensor, scale: Tensor, rows: Tensor, columns: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of both sides and of the scale."""
    with torch.autocast(first.device.type, enabled=False):
        return blocked.backward(first, second, scale, rows, columns)


@backward_op.register_fake
def _(first: Tensor, second: Tensor, scale: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return (
        first.new_empty(first.shape, dtype=rows.dtype),
        first.new_empty(first.shape, dtype=rows.dtype),
        rows.new_empty(()),
    )


forward_op.register_autograd(gradients(backward_op), setup_context=remember)

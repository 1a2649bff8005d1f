"""How the forward ops of the symmetric cross-entropy are tied to their backward ops."""

from collections.abc import Callable

from torch import Tensor


def remember(ctx, inputs: tuple, output: tuple) -> None:
    """Keeps what the gradient needs: both sides, the scale, and the sums."""
    _, rows, columns = output
    ctx.mark_non_differentiable(rows, columns)
    ctx.save_for_backward(*inputs, rows, columns)


def gradients(backward: Callable[..., tuple[Tensor, Tensor, Tensor]]) -> Callable:
    """Gives the gradient function for a forward whose backward op this is."""

    def apply(ctx, slope: Tensor, _rows, _columns):
        first, _, scale, _, _ = ctx.saved_tensors
        to_first, to_second, to_scale = backward(*ctx.saved_tensors)
        return (
            (to_first * slope).to(first.dtype),
            (to_second * slope).to(first.dtype),
            (to_scale * slope).to(scale.dtype),
        )

    return apply

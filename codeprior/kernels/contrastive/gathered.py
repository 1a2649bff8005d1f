"""The symmetric cross-entropy with the negatives of all ranks, each rank taking its own rows and columns only.

A rank gathers both sides, and computes two products of its own rows with the rows of all ranks. The logarithms of the
sums are gathered as well; with them the gradient needs no further communication.
"""

import torch
from torch import Tensor

from codeprior import distributed
from codeprior.kernels._choose import choose
from codeprior.kernels.contrastive import blocked
from codeprior.kernels.contrastive.api import as_scale, symmetric_cross_entropy, why_unfit


def gathered_cross_entropy(first: Tensor, second: Tensor, *, scale: float | Tensor, impl: str | None = None) -> Tensor:
    """Gives `symmetric_cross_entropy` of the rows of all ranks together; every rank must call it.

    Args:
        first: This rank's `(n, d)`; the same shape on every rank.
        second: `(n, d)`, same type and device.
        scale: What multiplies the similarities, the same on every rank; a scalar tensor gets a gradient.
        impl: Implementation by name; None chooses (see `explain`).

    Returns:
        Scalar, the whole loss, the same on every rank; float32 (float64 for float64).

    Raises:
        ValueError: The two sides are not two non-empty `(n, d)` of one shape.
        ImplUnavailable: The implementation asked for by name cannot run here.

    Note:
        Where gradients are averaged over ranks, as DistributedDataParallel does, they equal the gradient of the loss in
        one process. The loss must have the same weight on every rank.
    """
    if distributed.world() == 1:
        return symmetric_cross_entropy(first, second, scale=scale, impl=impl)
    unfit = why_unfit("gathered_cross_entropy", first, second)
    scale = as_scale(scale, first)
    name = choose("contrastive", impl, str(first.device), unfit=unfit)
    if name == "reference":
        whole = (distributed.gather_with_gradient(side) for side in (first, second))
        return symmetric_cross_entropy(*whole, scale=scale, impl=name)
    return _Gathered.apply(first, second, scale, name)


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx, first: Tensor, second: Tensor, scale: Tensor, name: str) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        rows_of, _ = _passes(name)
        every_first, every_second = (torch.cat(distributed.gather(side)) for side in (first, second))
        start = distributed.rank() * len(first)
        rows, diagonal = rows_of(first, every_second, scale, start)
        columns, _ = rows_of(second, every_first, scale, start)
        sums = torch.stack(distributed.gather(torch.stack([rows, columns])))
        ctx.save_for_backward(first, second, every_first, every_second, scale, sums)
        ctx.name = name
        return distributed.sum_over_ranks(((rows + columns) / 2 - diagonal).sum()) / len(every_first)

    @staticmethod
    def backward(ctx, slope: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        first, second, every_first, every_second, scale, sums = ctx.saved_tensors
        _, slopes_of = _passes(ctx.name)
        start, mine = distributed.rank() * len(first), sums[distributed.rank()]
        every_row, every_column = sums.transpose(0, 1).flatten(1).contiguous()
        to_first, share = slopes_of(first, every_second, scale, mine[0].contiguous(), every_column, start)
        to_second, _ = slopes_of(second, every_first, scale, mine[1].contiguous(), every_row, start)
        # the mean over all rows, and the sum over the ranks' equal losses
        factor = slope / len(first)
        return (to_first * factor).to(first.dtype), (to_second * factor).to(first.dtype), share * factor, None


def _passes(name: str):
    if name == "triton":
        from codeprior.kernels.contrastive import fused

        return fused.sums, fused.slopes
    return blocked.sums, blocked.slopes

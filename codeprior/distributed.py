"""Rank, world, and the three collectives that the rooms need; each is the identity where nothing is distributed.

Call sites then read the same in a notebook and under `torchrun`.
"""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = [
    "any_rank", "average_gradients", "broadcast", "gather", "gather_with_gradient", "mean_over_ranks", "rank",
    "sum_over_ranks", "world",
]  # fmt: skip


def rank() -> int:
    """Gives this process's number, 0 where nothing is distributed."""
    return dist.get_rank() if _started() else 0


def world() -> int:
    """Gives the count of processes, 1 where nothing is distributed."""
    return dist.get_world_size() if _started() else 1


def mean_over_ranks(value: Tensor) -> Tensor:
    """Gives the mean of `value` over the ranks, without a gradient.

    Args:
        value: Floating-point tensor of the same shape on every rank; not changed.
    """
    return sum_over_ranks(value) / world() if world() > 1 else value


def sum_over_ranks(value: Tensor) -> Tensor:
    """Gives the sum of `value` over the ranks, without a gradient.

    Args:
        value: Tensor of the same shape on every rank; not changed.
    """
    if world() == 1:
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total


def broadcast(value: Tensor, source: int = 0) -> Tensor:
    """Gives the `value` of rank `source` on every rank.

    Args:
        value: Tensor of the same shape on every rank; not changed.
        source: The rank whose value is taken.
    """
    if world() == 1:
        return value
    shared = value.detach().clone()
    dist.broadcast(shared, source)
    return shared


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Averages the gradients of parameters over the ranks, in one exchange; parameters without a gradient are left out.

    Args:
        parameters: The same ones have a gradient on every rank, of one type; changed in place.
    """
    found = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if world() == 1 or not found:
        return
    mean = mean_over_ranks(torch.cat([gradient.flatten() for gradient in found]))
    for gradient, part in zip(found, mean.split([gradient.numel() for gradient in found]), strict=True):
        gradient.copy_(part.view_as(gradient))


def gather(value: Tensor) -> list[Tensor]:
    """Gives the values of all ranks in order of rank, without a gradient.

    Args:
        value: Tensor of the same shape on every rank.
    """
    if world() == 1:
        return [value.detach()]
    parts = [torch.empty_like(value, memory_format=torch.contiguous_format) for _ in range(world())]
    dist.all_gather(parts, value.detach().contiguous())
    return parts


def any_rank(flag: bool, *, device: torch.device | str = "cpu") -> bool:
    """Gives whether the flag is set on at least one rank; every rank must ask.

    Args:
        flag: This rank's.
        device: Where the process group's tensors live: `"cpu"` for gloo, the GPU for NCCL.
    """
    if world() == 1:
        return flag
    return bool(sum_over_ranks(torch.tensor(float(flag), device=device)) > 0)


def gather_with_gradient(value: Tensor) -> Tensor:
    """Gives the values of all ranks, joined along the first axis, and lets gradients flow back to every rank.

    Args:
        value: `(n, …)`, the same shape on every rank.

    Returns:
        `(world · n, …)`, in order of rank.

    Note:
        The gradient is summed over ranks. A loss that every rank computes whole, on a model whose gradients are then
        averaged over ranks, therefore has the gradient of the one-process loss.
    """
    if world() == 1:
        return value
    return _Gather.apply(value)


def _started() -> bool:
    return dist.is_available() and dist.is_initialized()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        value = value.contiguous()
        parts = [torch.empty_like(value) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, value)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]

"""The interface between a stage and the library that distributes it: seven methods, and nothing else.

`TorchEngine` is plain `torch.distributed` under `torchrun`; with one process it does nothing. `adapters` has engines
for accelerate and Lightning Fabric; the same stage then finds the same weights.
"""

import inspect
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, Literal, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from codeprior import distributed

Precision = Literal["float32", "bfloat16"]
BOTH_DEVICES = "cpu:gloo,cuda:nccl"
"""The backends of a process group on GPUs; NCCL alone serves no tensor of the CPU."""


class Engine(Protocol):
    """What a stage needs of the library that distributes it."""

    rank: int
    world: int
    device: torch.device

    def wrap(self, module: nn.Module, *, trainable: bool = True) -> nn.Module:
        """Gives the module to call in a forward pass: on the device, with gradients averaged over ranks in the
        backward.

        Wrap only what a step trains. In the generator's part of a step the discriminator is called without the wrapper.
        """
        ...

    def backward(self, tensors: Sequence[Tensor], gradients: Sequence[Tensor | None] | None = None) -> None:
        """Runs the backward pass from several tensors at once.

        Args:
            tensors: Where it begins.
            gradients: The gradient at each; None stands for 1, at a scalar.
        """
        ...

    def mean(self, value: Tensor) -> Tensor:
        """Gives the mean over ranks, without a gradient."""
        ...

    def broadcast(self, value: Tensor, source: int = 0) -> Tensor:
        """Gives the value of one rank on every rank."""
        ...

    def any(self, flag: bool) -> bool:
        """Gives whether the flag is set on some rank; every rank must ask."""
        ...

    def autocast(self) -> AbstractContextManager[object]:
        """Opens the mixed precision of forward passes; losses and averages belong outside."""
        ...

    def accumulate(self, *modules: nn.Module) -> AbstractContextManager[object]:
        """Gives a context in which gradients are not averaged over ranks: for all micro-batches but the last."""
        ...


class TorchEngine:
    """`torch.distributed` as it is, without a framework.

    Args:
        device: Where modules and batches go.
        precision: Of forward passes inside `autocast`. Distances to codes, losses, the adaptive weight and all averages
            stay in float32 either way.
        channels_last: Whether wrapped modules store images channel by channel at each pixel, which convolutions on a
            GPU prefer.
        compiled: Whether wrapped modules are compiled.

    Raises:
        ValueError: An unknown precision.
    """

    def __init__(
        self,
        device: torch.device | str = "cpu",
        *,
        precision: Precision = "float32",
        channels_last: bool = False,
        compiled: bool = False,
    ):
        if precision not in ("float32", "bfloat16"):
            raise ValueError(f"TorchEngine: precision is 'float32' or 'bfloat16', got {precision!r}.")
        self.rank, self.world = distributed.rank(), distributed.world()
        self.device = torch.device(device)
        self.precision, self.channels_last, self.compiled = precision, channels_last, compiled

    def wrap(self, module: nn.Module, *, trainable: bool = True) -> nn.Module:
        """Gives the module to call, see `Engine.wrap`."""
        module = module.to(self.device)
        if self.channels_last:
            module = module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        wrapped = module
        if trainable and self.world > 1:
            # running statistics are each rank's own, and moving-average codebooks average themselves
            options: dict[str, Any] = {"gradient_as_bucket_view": True, _BUFFERS: False}
            wrapped = DistributedDataParallel(module, **options)
        return torch.compile(wrapped) if self.compiled else wrapped  # pyright: ignore[reportReturnType]

    def backward(self, tensors: Sequence[Tensor], gradients: Sequence[Tensor | None] | None = None) -> None:
        """Walks back from several tensors at once, see `Engine.backward`."""
        torch.autograd.backward(tensors, gradients)  # pyright: ignore[reportArgumentType]

    def mean(self, value: Tensor) -> Tensor:
        """Gives the mean over ranks, without a gradient."""
        return distributed.mean_over_ranks(value)

    def broadcast(self, value: Tensor, source: int = 0) -> Tensor:
        """Gives the value of one rank on every rank."""
        return distributed.broadcast(value, source)

    def any(self, flag: bool) -> bool:
        """Gives whether the flag is set on some rank; every rank must ask."""
        return distributed.any_rank(flag, device=self.device)

    def autocast(self) -> AbstractContextManager[object]:
        """Opens the mixed precision of forward passes."""
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    @contextmanager
    def accumulate(self, *modules: nn.Module) -> Iterator[None]:
        """Keeps gradients on their rank, see `Engine.accumulate`."""
        with ExitStack() as stack:
            for module in modules:
                bare = getattr(module, "_orig_mod", module)
                if isinstance(bare, DistributedDataParallel):
                    stack.enter_context(bare.no_sync())
            yield


def full(tensor: Tensor) -> Tensor:
    """Gives half-precision tensors as float32, others unchanged; for the results of forward passes, before the losses.

    Args:
        tensor: Any shape and type.
    """
    return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor


@contextmanager
def started(*, timeout: timedelta = timedelta(minutes=10)) -> Iterator[torch.device]:
    """Joins the process group that `torchrun` asks for, and leaves it at the end; without `torchrun`, does nothing.

    Args:
        timeout: How long a collective may wait for a rank that hangs; then the process ends, and `torchrun` restarts.

    Yields:
        This process's device: its own GPU where there is one, else the CPU.

    Raises:
        ValueError: Somebody else has begun a process group that does not serve the CPU.

    Note:
        On GPUs the group serves both kinds of tensor, gloo those of the CPU and NCCL those of the GPU: checkpoints
        gather the states of random generators on the CPU, and flags are exchanged there.
    """
    local = int(os.environ.get("LOCAL_RANK", 0))
    device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if dist.is_initialized():
        _check_serves_the_cpu()
        yield device
        return
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield device
        return
    options: dict[str, Any] = {}
    if "TORCHELASTIC_RESTART_COUNT" in os.environ and os.environ.get("GROUP_WORLD_SIZE") == "1":
        # on one machine torchrun's store outlives a restart: under the same names, ranks that are early would find the
        # addresses of dead ones. Over several machines every restart has a store of its own, and counts may differ
        store, rank, world = next(rendezvous("env://", timeout=timeout))
        store = dist.PrefixStore(f"attempt_{os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
        options = {"store": store, "rank": rank, "world_size": world}
    dist.init_process_group(BOTH_DEVICES if device.type == "cuda" else "gloo", timeout=timeout, **options)
    try:
        yield device
    finally:
        dist.destroy_process_group()


def _check_serves_the_cpu() -> None:
    served = dist.get_backend_config()
    if dist.get_world_size() > 1 and "cpu:" not in served:
        raise ValueError(
            f"started: expected a process group that serves tensors of the CPU too, got {served!r}; begin it with "
            f"{BOTH_DEVICES!r}."
        )


_BUFFERS = (
    "forward_sync_buffers"
    if "forward_sync_buffers" in inspect.signature(DistributedDataParallel.__init__).parameters
    else "broadcast_buffers"  # its name before torch 2.15
)

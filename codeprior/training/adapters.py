"""`Engine`s made of accelerate and of Lightning Fabric, for projects that use one of them.

Neither is a dependency. Both end in `DistributedDataParallel`, so a stage finds the same weights as under
`TorchEngine`.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING

from torch import Tensor, nn

from codeprior import distributed

if TYPE_CHECKING:
    from accelerate import Accelerator
    from lightning_fabric import Fabric


class _Collectives:
    def mean(self, value: Tensor) -> Tensor:
        """Gives the mean over ranks, without a gradient."""
        return distributed.mean_over_ranks(value)

    def broadcast(self, value: Tensor, source: int = 0) -> Tensor:
        """Gives the value of one rank on every rank."""
        return distributed.broadcast(value, source)


class AccelerateEngine(_Collectives):
    """An `Engine` made of accelerate.

    Args:
        accelerator: Made with `kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)]` where running
            statistics are each rank's own.
    """

    def __init__(self, accelerator: "Accelerator"):
        self.accelerator = accelerator
        self.rank, self.world, self.device = accelerator.process_index, accelerator.num_processes, accelerator.device

    def wrap(self, module: nn.Module, *, trainable: bool = True) -> nn.Module:
        """Gives the module to call, see `Engine.wrap`."""
        return self.accelerator.prepare_model(module, evaluation_mode=not trainable)

    def backward(self, tensors: Sequence[Tensor], gradients: Sequence[Tensor | None] | None = None) -> None:
        """Walks back from several tensors at once, see `Engine.backward`."""
        self.accelerator.backward(_one_scalar(tensors, gradients))

    def any(self, flag: bool) -> bool:
        """Gives whether the flag is set on some rank; every rank must ask."""
        return distributed.any_rank(flag, device=self.device)

    def autocast(self) -> AbstractContextManager[object]:
        """Opens the accelerator's mixed precision."""
        return self.accelerator.autocast()

    @contextmanager
    def accumulate(self, *modules: nn.Module) -> Iterator[None]:
        """Keeps gradients on their rank, see `Engine.accumulate`."""
        with ExitStack() as stack:
            for module in modules:
                stack.enter_context(self.accelerator.no_sync(module))
            yield


class FabricEngine(_Collectives):
    """An `Engine` made of Lightning Fabric.

    Args:
        fabric: Already launched.
    """

    def __init__(self, fabric: "Fabric"):
        self.fabric = fabric
        self.rank, self.world, self.device = fabric.global_rank, fabric.world_size, fabric.device

    def wrap(self, module: nn.Module, *, trainable: bool = True) -> nn.Module:
        """Gives the module to call, see `Engine.wrap`."""
        return self.fabric.setup_module(module) if trainable else module.to(self.device)

    def backward(self, tensors: Sequence[Tensor], gradients: Sequence[Tensor | None] | None = None) -> None:
        """Walks back from several tensors at once, see `Engine.backward`."""
        self.fabric.backward(_one_scalar(tensors, gradients))

    def any(self, flag: bool) -> bool:
        """Gives whether the flag is set on some rank; every rank must ask."""
        return distributed.any_rank(flag, device=self.device)

    def autocast(self) -> AbstractContextManager[object]:
        """Opens the fabric's precision."""
        return self.fabric.autocast()

    @contextmanager
    def accumulate(self, *modules: nn.Module) -> Iterator[None]:
        """Keeps gradients on their rank, see `Engine.accumulate`."""
        with ExitStack() as stack:
            for module in modules:
                stack.enter_context(self.fabric.no_backward_sync(module))  # pyright: ignore[reportArgumentType]
            yield


def _one_scalar(tensors: Sequence[Tensor], gradients: Sequence[Tensor | None] | None) -> Tensor:
    # a scalar whose gradient at each tensor is exactly the one that is given for it
    wanted = gradients or [None] * len(tensors)
    terms = [t if g is None else (t * g.detach()).sum() for t, g in zip(tensors, wanted, strict=True)]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total

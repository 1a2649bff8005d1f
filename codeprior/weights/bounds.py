"""What a module may ask for while it is built after a file: no more than the file's own tensors give reason for."""

import contextlib
import functools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.utils._python_dispatch import TorchDispatchMode


@contextlib.contextmanager
def no_larger_than(tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Stops a constructor that registers far more parameters, buffers or modules than a file has tensors for.

    A single tensor that is larger than all of them may be is refused before there is memory for it.

    Args:
        tensors: Of the file.

    Raises:
        ValueError: It does, in the block.
    """
    # a backbone of timm is built whole, and once more to learn its strides, before it is cut to what a file holds
    count, elements = 16 * len(tensors) + 512, 4 * sum(value.numel() for value in tensors.values()) + 2**20
    larger = f"the configuration asks for a larger module than the {len(tensors)} tensors of the file."

    def spend(module: nn.Module, name: str, value: Any) -> None:
        nonlocal count, elements
        count, elements = count - 1, elements - (value.numel() if isinstance(value, Tensor) else 0)
        if count < 0 or elements < 0:
            raise ValueError(larger)

    handles = [
        register_module_parameter_registration_hook(spend),
        register_module_buffer_registration_hook(spend),
        register_module_module_registration_hook(spend),
    ]
    try:
        with _NoneLarger(elements, larger):
            yield
    finally:
        for handle in handles:
            handle.remove()


class _NoneLarger(TorchDispatchMode):
    """Asks how large a new tensor would be, before it is made."""

    def __init__(self, most: int, reason: str):
        super().__init__()
        self._most, self._reason = most, reason

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # PyTorch would import its whole compiler, to tell it to pass this class over

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _elements(func, args, kwargs) > self._most:
            raise ValueError(self._reason)
        return func(*args, **kwargs)


@functools.cache
def _arguments(func: Any) -> tuple[str, ...]:
    """Gives the names of an operator's arguments."""
    return tuple(argument.name for argument in func._schema.arguments)


def _elements(func: Any, args: Any, kwargs: Mapping[str, Any]) -> int:
    """Gives how many elements a new tensor will have; 0 for one that is made after another one."""
    names = _arguments(func)
    if "device" not in names:  # a function that makes a new tensor has one
        return 0
    if "size" in names:
        at = names.index("size")
        size = args[at] if at < len(args) else kwargs.get("size", ())
        return math.prod(size)
    if isinstance(args[0] if args else None, Tensor):
        return 0
    # no generator draws for a tensor without memory
    options = {name: None if name == "generator" else value for name, value in kwargs.items() if name != "pin_memory"}
    try:
        return func(*args, **options | {"device": torch.device("meta")}).numel()
    except (RuntimeError, NotImplementedError):
        return 0  # what cannot be asked for is refused when it is made

"""Whether Triton kernels can run on a device, and the current device while one is launched."""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def why_not_triton(device: str) -> str | None:
    """Gives the reason why a Triton kernel cannot run on tensors of this device, `"cuda"` or `"cuda:1"`, or None.

    On the CPU it can where `TRITON_INTERPRET=1` was set before Triton was imported: slowly, for tests.
    """
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    if device == "cpu":
        return None if interpreted else "it reads CUDA tensors (on the CPU only under TRITON_INTERPRET=1)"
    if torch.device(device).type != "cuda":
        return f"it reads CUDA tensors, not {device}"
    if not torch.cuda.is_available():
        return "no CUDA device is here"
    if torch.cuda.get_device_capability(device) < (8, 0):
        return "it needs a GPU of compute capability 8.0 or newer"
    return None


@contextmanager
def launching(tensor: Tensor) -> Iterator[None]:
    """Makes a tensor's device the current one: Triton launches on that, whatever the tensors are on."""
    if tensor.device.type != "cuda":
        yield
        return
    with torch.cuda.device(tensor.device):
        yield

"""Tensors of a GPU that is not there, without values: which PyTorch can walk through a computation with them."""

import functools

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode


@functools.cache
def why_not() -> str | None:
    """Gives why it cannot: up to 2.8 it asks the driver about a view of such a tensor."""
    try:
        with FakeTensorMode():
            torch.empty(2, device="cuda")[:, None].add(1)
    except RuntimeError as error:
        return f"PyTorch {torch.__version__}: {str(error).splitlines()[0]}"
    return None


def need_fake_gpu() -> None:
    """Skips a test where tensors without values need a driver."""
    if reason := why_not():
        pytest.skip(f"tensors without values need a GPU's driver here: {reason}")

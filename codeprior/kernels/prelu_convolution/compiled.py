"""The small convolution for CPUs in C++: direct.cpp, from a wheel or compiled on first use; without gradients."""

import ctypes
import functools
import math

import torch
from torch import Tensor

from codeprior.kernels import _compile

_WIDTH = 16


def convolve(feature: Tensor, weight: Tensor, bias: Tensor, slope: Tensor | None, pool: int) -> Tensor:
    """Gives `max_pool(prelu(conv(feature)))`, as channels_last, each place padded to a multiple of 16 channels.

    Args:
        feature: `b c h w`, float32 on the CPU, any strides.
        weight: `o c k k`.
        bias: `(o,)`.
        slope: `(o,)`, of the PReLU; None for none.
        pool: Side of the maximum's window, whose stride is 2; 0 for none.
    """
    if feature.stride(1) != 1:
        feature = feature.contiguous(memory_format=torch.channels_last)
        if feature.stride(1) != 1:  # where there is one place or one channel, PyTorch keeps any strides
            feature = feature.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format).permute(0, 3, 1, 2)
    outs, channels, kernel = weight.shape[:3]
    height, width = (side - kernel + 1 for side in feature.shape[2:])
    tall, wide = after_pool(height, pool), after_pool(width, pool)
    answer = torch.empty(len(feature), tall, wide, outs + -outs % _WIDTH)
    weight, bias, slope = weight.contiguous(), bias.contiguous(), None if slope is None else slope.contiguous()
    _bound(_compile.library("prelu_convolution")).convolve(
        feature.data_ptr(), len(feature), feature.stride(0), *feature.stride()[2:], channels, weight.data_ptr(),
        bias.data_ptr(), None if slope is None else slope.data_ptr(), kernel, outs, height, width, pool,
        answer.data_ptr(), tall, wide,
    )  # fmt: skip
    return answer.permute(0, 3, 1, 2)[:, :outs]


def after_pool(side: int, pool: int) -> int:
    """Gives the side of a feature after a maximum of stride 2 that also takes windows which are cut by the edge."""
    return max(0, math.ceil((side - pool) / 2)) + 1 if pool else side


@functools.cache
def _bound(library: ctypes.CDLL) -> ctypes.CDLL:
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    library.convolve.restype = None
    library.convolve.argtypes = [pointer, *[count] * 5, *[pointer] * 3, *[count] * 5, pointer, count, count]
    return library

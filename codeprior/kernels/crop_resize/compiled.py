"""Cropping and resizing for CPUs in C++: crops.cpp, from a wheel or compiled on first use; without gradients."""

import ctypes
import functools

import torch
from torch import Tensor

from codeprior.kernels import _compile


def crop(image: Tensor, boxes: Tensor, size: int, outside: float) -> Tensor:
    """Gives each box of an image as a square, in the memory format channels_last.

    Args:
        image: `c h w`, float32 on the CPU, any strides.
        boxes: `n 4`, int64: left, top, right and bottom; right and bottom are inside.
        size: Side of the squares, pixels.
        outside: The value of places outside the image, and of boxes that hold no pixel.
    """
    channels, height, width = image.shape
    together = image.permute(1, 2, 0).contiguous()
    boxes, answer = boxes.contiguous(), torch.empty(len(boxes), size, size, channels)
    _bound(_compile.library("crop_resize")).crops(
        together.data_ptr(), height, width, channels, together.stride(0), boxes.data_ptr(), len(boxes), size, outside,
        answer.data_ptr(),
    )  # fmt: skip
    return answer.permute(0, 3, 1, 2)


@functools.cache
def _bound(library: ctypes.CDLL) -> ctypes.CDLL:
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    library.crops.restype = None
    library.crops.argtypes = [pointer, *[count] * 4, pointer, count, count, ctypes.c_float, pointer]
    return library

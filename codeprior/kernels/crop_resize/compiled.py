"""Cropping and resizing for CPUs in C++: crops.cpp, from a wheel or compiled on first use; without gradients."""

import ctypes
import functools

import torch
from torch import Tensor

from codeprior.kernels import _compile


def crop(image: Tensor, boxes: Tensor, rows: int, columns: int, outside: float, antialias: bool) -> Tensor:
    """Gives each box of an image at one size, in the memory format channels_last.

    Args:
        image: `c h w`, float32 or uint8 on the CPU, any strides.
        boxes: `n 4`, int64: left, top, right and bottom; right and bottom are inside.
        rows: Of the answers.
        columns: Of the answers.
        outside: The value of places outside the image, and of boxes that hold no pixel.
        antialias: Whether all pixels of a box count where it shrinks.
    """
    channels, height, width = image.shape
    together = image.permute(1, 2, 0).contiguous()
    boxes, answer = boxes.contiguous(), torch.empty(len(boxes), rows, columns, channels)
    library = _bound(_compile.library("crop_resize"))
    crops = library.crops_of_levels if image.dtype == torch.uint8 else library.crops
    crops(
        together.data_ptr(), height, width, channels, together.stride(0), boxes.data_ptr(), len(boxes), rows, columns,
        antialias, outside, answer.data_ptr(),
    )  # fmt: skip
    return answer.permute(0, 3, 1, 2)


@functools.cache
def _bound(library: ctypes.CDLL) -> ctypes.CDLL:
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    for function in (library.crops, library.crops_of_levels):
        function.restype = None
        function.argtypes = [pointer, *[count] * 4, pointer, *[count] * 4, ctypes.c_float, pointer]
    return library

"""The deformable convolution for CPUs in C++: deformable.cpp, from a wheel or compiled on first use; without gradients.

torchvision's operator first writes what all taps read, nine times the feature, and then multiplies it. Here a block of
places is read and multiplied while it lies in the cache.
"""

import ctypes
import functools
import math
import threading

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from codeprior.kernels import _compile
from codeprior.kernels._layout import channels_together
from codeprior.kernels.deformable_convolution.reference import TAPS

_WIDTH = 16
_THREADED = 2**22  # multiplications from which threads save time


def convolve(feature: Tensor, weight: Tensor, bias: Tensor | None, offsets: Tensor, mask: Tensor) -> Tensor:
    """Gives the modulated deformable convolution as channels_last.

    Args:
        feature: `b c h w`, float32 on the CPU, any strides.
        weight: `o c 3 3`.
        bias: `(o,)`.
        offsets: `b 2·9·g h w`.
        mask: `b 9·g h w`.
    """
    feature, offsets, mask = (channels_together(part) for part in (feature, offsets, mask))
    batch, channels, height, width = feature.shape
    outs, groups, places = len(weight), mask.shape[1] // TAPS, height * width
    padded = F.pad(weight, (0, 0, 0, 0, 0, 0, 0, -outs % _WIDTH))
    kernels = rearrange(padded, "(part o) c y x -> part (y x) c o", o=_WIDTH).contiguous()
    bias = None if bias is None else bias.contiguous()
    answer = torch.empty(batch, height, width, outs)
    threads = torch.get_num_threads() if places * weight.numel() > _THREADED else 1
    share = math.ceil(places / threads)

    def run(image: int, first: int) -> None:
        _bound(_compile.library("deformable_convolution")).convolve(
            feature[image].data_ptr(), height, width, channels, *feature.stride()[2:],
            offsets[image].data_ptr(), *offsets.stride()[2:], mask[image].data_ptr(), *mask.stride()[2:], groups,
            kernels.data_ptr(), None if bias is None else bias.data_ptr(), answer[image].data_ptr(), outs,
            first, min(first + share, places),
        )  # fmt: skip

    for image in range(batch):
        helpers = [threading.Thread(target=run, args=(image, first)) for first in range(share, places, share)]
        for helper in helpers:
            helper.start()
        run(image, 0)
        for helper in helpers:
            helper.join()
    return answer.permute(0, 3, 1, 2)


@functools.cache
def _bound(library: ctypes.CDLL) -> ctypes.CDLL:
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    library.convolve.restype = None
    library.convolve.argtypes = [
        pointer, *[count] * 5, pointer, *[count] * 2, pointer, *[count] * 3, *[pointer] * 3, *[count] * 3
    ]  # fmt: skip
    return library

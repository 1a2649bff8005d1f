"""The convolution for CPUs in C++: winograd.cpp, from a wheel or compiled on first use; without gradients.

It needs a quarter of the definition's multiplications (about a sixth where the feature is doubled), and no further pass
over memory for the steps around it. Its rounding error is about six times that of a direct sum: in the sizes of the
released networks at most 8e-5 of the answer's standard deviation, against 1.2e-5.
"""

import ctypes
import functools
import math
import threading

import torch
from torch import Tensor
from torch.nn import functional as F

from codeprior.kernels import _compile
from codeprior.kernels._layout import channels_together
from codeprior.kernels.convolution.reference import Norm, convolution_reference

_PLACES, _WIDTH = 36, 16
_NARROWEST = 16  # channels for which a direct sum is as fast
_BLOCK = 36 * 64  # channels times tiles that fit the second-level cache
_THREADED = 2**24  # multiplications from which threads save time


def convolve(
    feature: Tensor, weight: Tensor, bias: Tensor | None, norm: Norm | None, residual: Tensor | None, doubled: bool
) -> Tensor:
    """Gives `residual + conv(double(silu(norm(feature))))` as channels_last.

    Args:
        feature: `b c h w`, float32 on the CPU, any strides.
        weight: `o c 3 3`.
        bias: `(o,)`.
        norm: GroupNorm before; SiLU follows it.
        residual: `b o H W`.
        doubled: Whether each place is repeated twice along both sides.
    """
    feature = channels_together(feature)
    channels, outs = feature.shape[1], weight.shape[0]
    if channels < _NARROWEST or channels % _WIDTH:
        answer = convolution_reference(feature, weight, bias, norm=norm, residual=residual, doubled=doubled)
        return answer.contiguous(memory_format=torch.channels_last)
    spare = -outs % _WIDTH
    if spare:
        weight = F.pad(weight, (0, 0, 0, 0, 0, 0, 0, spare))
        bias = None if bias is None else F.pad(bias, (0, spare))
    fused = None if residual is None or spare else channels_together(residual)
    answer = _answer(feature, _transformed(weight), bias, norm, fused, doubled)
    if spare:
        answer = answer[:, :outs].contiguous(memory_format=torch.channels_last)
        answer = answer if residual is None else answer.add_(residual)
    return answer


def _answer(
    feature: Tensor, kernels: Tensor, bias: Tensor | None, norm: Norm | None, residual: Tensor | None, doubled: bool
) -> Tensor:
    batch, channels, height, width = feature.shape
    tall, wide, outs = height << doubled, width << doubled, len(kernels) * _WIDTH
    answer = torch.empty(batch, outs, tall, wide, memory_format=torch.channels_last)
    _library().large_pages(answer.data_ptr(), 4 * answer.numel())
    tiles, rows = math.ceil(tall / 4) * math.ceil(wide / 4), _library().tile_rows()
    block = math.ceil(max(24, min(36, _BLOCK // channels)) / rows) * rows
    threads = torch.get_num_threads() if tall * wide * channels * outs > _THREADED else 1
    share = math.ceil(tiles / threads)
    bias = None if bias is None else bias.contiguous()

    def run(image: int, scale: Tensor | None, shift: Tensor | None, first: int) -> None:
        room = torch.empty(_PLACES * block * (channels + _WIDTH))
        added = None if residual is None else residual[image]
        _library().convolve(
            _at(feature[image]), height, width, channels, *feature.stride()[2:], _at(scale), _at(shift), _at(kernels),
            _at(bias), _at(added), *((0, 0) if residual is None else residual.stride()[2:]), _at(answer[image]), outs,
            doubled, first, min(first + share, tiles), block, _at(room),
        )  # fmt: skip

    for image in range(batch):
        factors = (None, None) if norm is None else _factors(feature[image], norm)
        helpers = [threading.Thread(target=run, args=(image, *factors, first)) for first in range(share, tiles, share)]
        for helper in helpers:
            helper.start()
        run(image, *factors, 0)
        for helper in helpers:
            helper.join()
    return answer


def _factors(image: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
    """What GroupNorm multiplies and adds to each channel of one image."""
    channels, height, width = image.shape
    scale, shift = torch.empty(2, channels)
    room = torch.empty(2 * channels, dtype=torch.float64)
    _library().normalisation(
        _at(image), height, width, channels, *image.stride()[1:], norm.groups, norm.epsilon,
        _at(norm.weight.contiguous()), _at(norm.bias.contiguous()), _at(scale), _at(shift), _at(room),
    )  # fmt: skip
    return scale, shift


def _transformed(weight: Tensor) -> Tensor:
    outs, channels = weight.shape[:2]
    weight, kernels = weight.contiguous(), torch.empty(outs // _WIDTH, _PLACES, channels, _WIDTH)
    _library().transform_weights(_at(weight), outs, channels, _at(kernels))
    return kernels


def _at(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


@functools.cache
def _bound(library: ctypes.CDLL) -> ctypes.CDLL:
    pointer, count = ctypes.c_void_p, ctypes.c_int64
    library.tile_rows.restype, library.tile_rows.argtypes = count, []
    library.transform_weights.argtypes = [pointer, count, count, pointer]
    library.convolve.argtypes = [
        pointer, *[count] * 5, *[pointer] * 5, *[count] * 2, pointer, *[count] * 5, pointer
    ]  # fmt: skip
    library.normalisation.argtypes = [pointer, *[count] * 6, ctypes.c_double, *[pointer] * 5]
    library.large_pages.argtypes = [pointer, count]
    for function in (library.transform_weights, library.convolve, library.normalisation, library.large_pages):
        function.restype = None
    return library


def _library() -> ctypes.CDLL:
    return _bound(_compile.library("convolution"))

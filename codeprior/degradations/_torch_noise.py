"""Noise of a batch in torch: bits, a table and single operations, so that every device gives the CPU's numbers."""

import numpy as np
import torch
from torch import Tensor

from ._canvas import Canvas
from ._draws import _GOLDEN, mix
from ._normal import PIECES, quantile_table
from .record import Values

_FIRST = 127 << PIECES


def gaussian_canvas(canvas: Canvas, values: Values, clip: bool) -> Canvas:
    """Gives each image with its normal noise."""
    field = normal_canvas(canvas, values["key"], values["grey"])
    noise = field * canvas.per_sample(values["sigma"].astype(np.float32)) / 255
    noisy = canvas.pixels + noise
    return Canvas(noisy.clamp(0, 1) if clip else noisy, canvas.sizes)


def normal_canvas(canvas: Canvas, keys: np.ndarray, grey: np.ndarray) -> Tensor:
    """Gives the normal field of each sample's key on the canvas: `b 3 H W`."""
    place = _places(canvas, grey)
    bits = _bits(canvas, keys, (place >> 1) + 1)
    half = torch.where((place & 1).bool(), _shifted(bits, 32), bits & 0xFFFFFFFF)
    odd = ((half >> 1) | 1).to(torch.float32)
    pattern = odd.view(torch.int32)
    piece = (pattern >> (23 - PIECES)) - _FIRST
    rest = (pattern & ((1 << (23 - PIECES)) - 1)).to(torch.float32) * 2.0 ** (PIECES - 23)
    table, slopes = (canvas.send(column) for column in quantile_table())
    upper = table[piece] + rest * slopes[piece]
    return torch.where((half & 1).bool(), -upper, upper)


def uniform_canvas(canvas: Canvas, keys: np.ndarray, grey: np.ndarray) -> Tensor:
    """Gives 32 random bits for each place of the canvas, as whole numbers: `b 3 H W`."""
    return _shifted(_bits(canvas, keys, _places(canvas, grey) + 1), 32)


def _places(canvas: Canvas, grey: np.ndarray) -> Tensor:
    """Gives the number of each place in its own image, channel by channel; one channel where it is grey."""
    height, width = canvas.pixels.shape[-2:]
    device = canvas.pixels.device
    rows = torch.arange(height, device=device)[None, None, :, None]
    columns = torch.arange(width, device=device)[None, None, None, :]
    channels = torch.arange(3, device=device)[None, :, None, None]
    area = canvas.per_sample(np.where(grey, 0, canvas.sizes.prod(1)))
    return channels * area + rows * canvas.per_sample(canvas.sizes[:, 1]) + columns


def _bits(canvas: Canvas, keys: np.ndarray, index: Tensor) -> Tensor:
    """Gives SplitMix64 of each sample's key at the given counters, in wrapping 64-bit arithmetic."""
    base = canvas.per_sample(mix(np.asarray(keys, np.int64).view(np.uint64)).view(np.int64))
    state = base + index * _signed(_GOLDEN)
    state = (state ^ _shifted(state, 30)) * _signed(0xBF58476D1CE4E5B9)
    state = (state ^ _shifted(state, 27)) * _signed(0x94D049BB133111EB)
    return state ^ _shifted(state, 31)


def _shifted(state: Tensor, count: int) -> Tensor:
    """A shift to the right that brings in zeros."""
    return (state >> count) & ((1 << (64 - count)) - 1)


def _signed(constant: int) -> int:
    return constant - (1 << 64) if constant >> 63 else constant

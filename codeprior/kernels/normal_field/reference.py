"""The normal field in plain PyTorch: 64-bit whole numbers that wrap, a table, and single operations in float32."""

import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15
FIRST, SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
PIECES = 6  # binary logarithm of the pieces in an octave


def normals(keys: Tensor, shared: Tensor, sizes: Tensor, quantiles: Tensor, canvas: tuple[int, int]) -> Tensor:
    """Gives the normal field of each key; see `normal_field`."""
    place = places(shared, sizes, canvas)
    bits = random_bits(keys, (place >> 1) + 1)
    half = torch.where((place & 1).bool(), shifted(bits, 32), bits & 0xFFFFFFFF)
    pattern = ((half >> 1) | 1).to(torch.float32).view(torch.int32)
    piece = (pattern >> (23 - PIECES)) - (127 << PIECES)
    rest = (pattern & ((1 << (23 - PIECES)) - 1)).to(torch.float32) * 2.0 ** (PIECES - 23)
    values, slopes = quantiles
    upper = values[piece] + rest * slopes[piece]
    return torch.where((half & 1).bool(), -upper, upper)


def places(shared: Tensor, sizes: Tensor, canvas: tuple[int, int]) -> Tensor:
    """Gives the number of each place in its own image, channel by channel, `b 3` on the canvas; int64.

    Args:
        shared: Whether the channels share their numbers: `b`, bool.
        sizes: Height and width of each image: `b 2`.
        canvas: Height and width of the canvas.
    """
    rows = torch.arange(canvas[0], device=sizes.device)[None, None, :, None]
    columns = torch.arange(canvas[1], device=sizes.device)[None, None, None, :]
    channels = torch.arange(3, device=sizes.device)[None, :, None, None]
    height, width = (side[:, None, None, None] for side in sizes.long().unbind(1))
    return channels * torch.where(shared[:, None, None, None], 0, height * width) + rows * width + columns


def random_bits(keys: Tensor, index: Tensor) -> Tensor:
    """Gives SplitMix64 of each key, `b`, at counters `b …`, in wrapping 64-bit arithmetic."""
    state = keys[:, None, None, None] + index * _signed(GOLDEN)
    state = (state ^ shifted(state, 30)) * _signed(FIRST)
    state = (state ^ shifted(state, 27)) * _signed(SECOND)
    return state ^ shifted(state, 31)


def shifted(state: Tensor, count: int) -> Tensor:
    """A shift of 64 bits to the right that brings in zeros."""
    return (state >> count) & ((1 << (64 - count)) - 1)


def _signed(constant: int) -> int:
    return constant - (1 << 64) if constant >> 63 else constant

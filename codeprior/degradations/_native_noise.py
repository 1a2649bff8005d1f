"""Compiled noise for the CPU, the numbers of `_normal` and `_poisson` without the arrays between."""

import numpy as np

from ._jit import exact
from ._normal import PIECES

_SHIFT = np.uint32(23 - PIECES)
_FIRST = np.uint32(127 << PIECES)
_REST = np.uint32((1 << (23 - PIECES)) - 1)
_UNIT = np.float32(2.0 ** (PIECES - 23))
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@exact
def add_normal(pixels, key, sigma, grey, values, slopes):
    """Gives noisy pixels clipped to [0, 1]: the same numbers as `_normal.normals`, without the arrays between."""
    height, width, channels = pixels.shape
    result = np.empty_like(pixels)
    area = height * width
    source, target = pixels.reshape(-1), result.reshape(-1)
    base = _mixed(np.uint64(key))
    bits = np.uint64(0)
    for channel in range(1 if grey else channels):
        for pixel in range(area):
            place = channel * area + pixel
            if place & 1:
                bits = bits >> np.uint64(32)
            else:
                bits = _mixed(base + np.uint64((place >> 1) + 1) * _GOLDEN)
            half = np.uint32(bits & np.uint64(0xFFFFFFFF))
            pattern = np.float32((half >> np.uint32(1)) | np.uint32(1)).view(np.uint32)
            piece = (pattern >> _SHIFT) - _FIRST
            upper = values[piece] + np.float32(pattern & _REST) * _UNIT * slopes[piece]
            noise = (-upper if half & np.uint32(1) else upper) * sigma / np.float32(255)
            for here in range(channel, channels if grey else channel + 1):
                value = source[channels * pixel + here] + noise
                target[channels * pixel + here] = min(max(value, np.float32(0)), np.float32(1))
    return result


@exact
def _mixed(state):
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


@exact
def poisson_counts(whole, key, table, counts):
    """Fills in the Poisson counts of 8-bit pixels, `h w c`: the smallest whose cumulative chance is above 32 bits."""
    height, width, channels = whole.shape
    area = height * width
    source, target = whole.reshape(-1), counts.reshape(-1)
    base = _mixed(np.uint64(key))
    for channel in range(channels):
        for pixel in range(area):
            bits = np.int64(_mixed(base + np.uint64(channel * area + pixel + 1) * _GOLDEN) >> np.uint64(32))
            row = table[source[channels * pixel + channel]]
            low, step = 0, 256
            while step > 0:
                if row[low + step - 1] <= bits:
                    low += step
                step >>= 1
            target[channels * pixel + channel] = low

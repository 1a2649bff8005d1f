"""Compiled loops over pixels for the CPU: levels to unit floats and back, and noise; and how loops are compiled.

The first import loads numba, so the ops import this file inside the functions that run on the CPU.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from codeprior.extras import needed

from ._draws import GOLDEN, PIECES

_njit = needed("numba", who="degradations on the CPU").njit
_OPTIONS = {"nogil": True, "error_model": "numpy"}

_SHIFT = np.uint32(23 - PIECES)
_FIRST = np.uint32(127 << PIECES)
_REST = np.uint32((1 << (23 - PIECES)) - 1)
_UNIT = np.float32(2.0 ** (PIECES - 23))
_STEP = np.uint64(GOLDEN)


def exact(function: Callable[..., Any]) -> Any:
    """Compiles a function on its first call, in IEEE arithmetic.

    Numba keeps the result beside the source, or in the user's cache; where neither can be written (a read-only
    installation, no home) the function is compiled once a process instead.
    """
    try:
        return _njit(cache=True, **_OPTIONS)(function)
    except RuntimeError as error:
        if "cannot cache function" not in str(error):
            raise
        return _njit(**_OPTIONS)(function)


@exact
def unit_planes(planes):
    """Gives 8-bit planes as unit floats."""
    result = np.empty(planes.shape, np.float32)
    flat, source = result.reshape(-1), planes.reshape(-1)
    for place in range(flat.size):
        flat[place] = np.float32(source[place]) / np.float32(255)
    return result


@exact
def unit_pixels(planes):
    """Gives 8-bit planes, `3 H W`, as unit pixels, `H W 3`."""
    channels, height, width = planes.shape
    result = np.empty((height, width, channels), np.float32)
    for y in range(height):
        line = result[y].reshape(-1)
        for channel in range(channels):
            source = planes[channel, y]
            for x in range(width):
                line[channels * x + channel] = np.float32(source[x]) / np.float32(255)
    return result


@exact
def levels_reversed(pixels):
    """Gives unit pixels, `H W 3`, as 8-bit levels with the channels in reverse order, rounded half to even."""
    height, width, channels = pixels.shape
    result = np.empty((height, width, channels), np.uint8)
    for y in range(height):
        for x in range(width):
            for channel in range(channels):
                value = min(max(pixels[y, x, channels - 1 - channel], np.float32(0)), np.float32(1))
                result[y, x, channel] = np.rint(value * np.float32(255))
    return result


@exact
def unit_reversed(levels):
    """Gives 8-bit levels, `H W 3`, as unit floats with the channels in reverse order."""
    height, width, channels = levels.shape
    result = np.empty((height, width, channels), np.float32)
    for y in range(height):
        for x in range(width):
            for channel in range(channels):
                result[y, x, channel] = np.float32(levels[y, x, channels - 1 - channel]) / np.float32(255)
    return result


@exact
def add_normal(pixels, key, sigma, grey, values, slopes):
    """Gives noisy pixels clipped to [0, 1]: the numbers of `_draws.normals`, without the arrays between."""
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
                bits = _mixed(base + np.uint64((place >> 1) + 1) * _STEP)
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
            bits = np.int64(_mixed(base + np.uint64(channel * area + pixel + 1) * _STEP) >> np.uint64(32))
            row = table[source[channels * pixel + channel]]
            low, step = 0, 256
            while step > 0:
                if row[low + step - 1] <= bits:
                    low += step
                step >>= 1
            target[channels * pixel + channel] = low

"""Compiled ways between planes and pixels, 8-bit levels and unit floats, in one pass each."""

import numpy as np

from ._jit import exact


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
    """Gives unit pixels, `H W 3`, as 8-bit levels with the channels the other way round, rounded half to even."""
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
    """Gives 8-bit levels, `H W 3`, as unit floats with the channels the other way round."""
    height, width, channels = levels.shape
    result = np.empty((height, width, channels), np.float32)
    for y in range(height):
        for x in range(width):
            for channel in range(channels):
                result[y, x, channel] = np.float32(levels[y, x, channels - 1 - channel]) / np.float32(255)
    return result

"""Compiled inner loops for the CPU: a blur fused into the bilinear reduction after it, and the enlargement at the end.

Bilinear reduction without antialias reads four blurred pixels for each result, so most of a blurred image is never
read. Here the blur is computed only at the places that are read. The functions are compiled on first use, and the
result is kept on disk.
"""

# intrinsics are called without the typing context they are written with
# pyright: reportCallIssue=false

import numpy as np

from ._native import exact
from ._vector import fused_product, weighted_rows, window_pairs
from .resample import columns_rounded_twice as _columns_rounded_twice

columns_rounded_twice = exact(_columns_rounded_twice)


@exact
def _reflect(place, size):
    """Reflect-101, repeated until inside."""
    if size == 1:
        return 0
    period = 2 * size - 2
    place = place % period
    return period - place if place >= size else place


@exact
def padded_planes(planes, scale, half):
    """Gives planes as unit floats with reflect-101 columns on both sides, and room for vectors to run over.

    Args:
        planes: `3 H W`, uint8 or float32.
        scale: What the values are divided by: 255 or 1.
        half: Columns on the left; there are as many and 64 more on the right, the last of which are zero.
    """
    channels, height, width = planes.shape
    pitch = (width + 2 * half + 64 + 7) // 8 * 8
    result = np.empty((channels, height, pitch), np.float32)
    for channel in range(channels):
        for y in range(height):
            line, source = result[channel, y], planes[channel, y]
            line[2 * half + width :] = 0
            middle = line[half : half + width]
            for x in range(width):
                middle[x] = np.float32(source[x]) / scale
            for x in range(half):
                line[x] = middle[_reflect(x - half, width)]
                line[half + width + x] = middle[_reflect(width + x, width)]
            line[2 * half + width] = middle[_reflect(width + half, width)]
    return result


_windows = window_pairs(3, 2)
_row_pairs = weighted_rows(4)
_ROWS = 8  # output rows done together, so that what is between the passes stays in the cache


@exact
def _starts(first, taps, half, size, pitch):
    """Gives where each row that a kernel reads begins: `taps` of them from each first row on."""
    starts = np.empty(first.size * taps, np.int64)
    for output in range(first.size):
        for tap in range(taps):
            starts[output * taps + tap] = _reflect(first[output] - half + tap, size) * pitch
    return starts


@exact
def reduce_separably(image, width, taps_y, taps_x, rows, part_y, columns, part_x):
    """Gives the blurred and reduced image for a kernel that is an outer product, rounded where OpenCV rounds.

    Args:
        image: `padded_planes` of the image with half the kernel.
        width: Columns of the image itself.
        taps_y, taps_x: The two factors of the kernel, with a 0 before and after.
        rows, part_y: Which two rows each output row lies between, and how far: first row and fraction.
        columns, part_x: The same for columns.

    Returns:
        `h w 3`.
    """
    channels, height, pitch = image.shape
    taps = taps_y.size - 1
    half = (taps - 1) // 2
    out_h, out_w = rows.size, columns.size
    starts = _starts(rows, taps, half, height, pitch)
    used = (width + 2 * half + 1 + 15) // 16 * 16
    lines = np.empty(2 * _ROWS * used)
    turned = np.zeros(used * 2 * _ROWS)
    places = np.arange(taps) * (2 * _ROWS)
    sums = np.empty((2, 2 * _ROWS))
    flat_sums = sums.reshape(-1)
    result = np.empty((out_h, out_w, channels), np.float32)
    for channel in range(channels):
        plane = image[channel].reshape(-1)
        for first in range(0, out_h, _ROWS):
            block = min(_ROWS, out_h - first)
            for i in range(block):
                for x in range(0, used, 16):
                    _row_pairs(plane, starts, (first + i) * taps, x, taps_y, taps, lines, 2 * i * used + x, used)
            for x in range(used):
                for line in range(2 * block):
                    turned[x * 2 * _ROWS + line] = lines[line * used + x]
            for j in range(out_w):
                _row_pairs(turned, places, 0, columns[j] * 2 * _ROWS, taps_x, taps, flat_sums, 0, 2 * _ROWS)
                for i in range(block):
                    upper = _interpolated(np.float32(sums[0, 2 * i]), np.float32(sums[1, 2 * i]), part_x[j])
                    lower = _interpolated(np.float32(sums[0, 2 * i + 1]), np.float32(sums[1, 2 * i + 1]), part_x[j])
                    result[first + i, j, channel] = _interpolated(upper, lower, part_y[first + i])
    return result


@exact
def _interpolated(a, b, fraction):
    """One fused multiply-add, as `cv2.resize` has it."""
    return fused_product(fraction, b - a, a)


@exact
def reduce_directly(image, kernel, rows, part_y, columns, part_x):
    """Gives the blurred and reduced image for any kernel, summing it where it is read.

    Args:
        image: `padded_planes` of the image with half the kernel.
        kernel: `size size`; taps that are 0 are skipped.
        rows, part_y, columns, part_x: As for `reduce_separably`.

    Returns:
        `h w 3`.
    """
    channels, height, pitch = image.shape
    size = kernel.shape[0]
    half = size // 2
    result = np.empty((rows.size, columns.size, channels), np.float32)
    sums = np.empty((3, 2, 16), np.float32)
    flat_sums = sums.reshape(-1)
    threes = np.empty((columns.size + 2) // 3 * 3, np.int64)
    for j in range(threes.size):
        threes[j] = columns[min(j, columns.size - 1)]
    # the window in blocks of one row and 16 columns, without those where the kernel is 0
    tap_y, tap_x = np.empty((size + 1) * (size // 16 + 1), np.int64), np.empty((size + 1) * (size // 16 + 1), np.int64)
    count = 0
    for t in range(size + 1):
        for first in range(0, size, 16):
            counts = False
            for near in range(max(t - 1, 0), min(t + 1, size)):
                for x in range(first, min(first + 16, size)):
                    counts = counts or kernel[near, x] != 0
            if counts:
                tap_y[count], tap_x[count] = t, first
                count += 1
    weights, starts = np.zeros(count * 16, np.float32), np.empty(count, np.int64)
    for i in range(rows.size):
        part = np.float64(part_y[i])
        for block in range(count):
            t, first = tap_y[block], tap_x[block]
            starts[block] = _reflect(rows[i] - half + t, height) * pitch + first
            for x in range(first, min(first + 16, size)):
                here = kernel[t, x] if t < size else 0.0
                above = kernel[t - 1, x] if t > 0 else 0.0
                weights[block * 16 + x - first] = (1 - part) * here + part * above
        for channel in range(channels):
            plane = image[channel].reshape(-1)
            for group in range(0, columns.size, 3):
                _windows(plane, starts, threes, group, weights, count, flat_sums)
                for number in range(min(3, columns.size - group)):
                    near = far = 0.0
                    for lane in range(16):
                        near += sums[number, 0, lane]
                        far += sums[number, 1, lane]
                    part_far = np.float64(part_x[group + number])
                    result[i, group + number, channel] = (1 - part_far) * near + part_far * far
    return result


@exact
def source_places(source, target):
    """Gives the first of the two source places around each of `target` places, and the part of the way to the second.

    Coordinates in double precision, half-pixel centres, clamped at the ends: the rule of `cv2.resize`.
    """
    scale = 1.0 / (target / source)
    first = np.empty(target, np.int64)
    part = np.empty(target, np.float32)
    for place in range(target):
        real = (place + 0.5) * scale - 0.5
        low = np.int64(np.floor(real))
        rest = real - low
        if low < 0:
            low, rest = 0, 0.0
        if low >= source - 1:
            low, rest = source - 1, 0.0
        first[place] = low
        part[place] = rest
    return first, part


@exact
def resize_to_levels(pixels, height, width, rounded):
    """Gives pixels resized bilinearly, as planes of 8-bit levels.

    Args:
        pixels: `h w 3`, unit.
        height, width: New size.
        rounded: Planes `3 height width`, uint8, to write to.
    """
    rows, part_y = source_places(pixels.shape[0], height)
    columns, part_x = source_places(pixels.shape[1], width)
    last_y, last_x = pixels.shape[0] - 1, pixels.shape[1] - 1
    channels = pixels.shape[2]
    lines = np.empty((2, channels, width), np.float32)
    held = np.full(2, -1, np.int64)
    rounded_twice = columns_rounded_twice(pixels.shape[1], width)
    for i in range(height):
        upper, lower = rows[i], min(rows[i] + 1, last_y)
        for row in (upper, lower):
            if held[row & 1] != row:
                held[row & 1] = row
                for channel in range(channels):
                    line = lines[row & 1, channel]
                    for x in range(width):
                        a = pixels[row, columns[x], channel]
                        b = pixels[row, min(columns[x] + 1, last_x), channel]
                        line[x] = _interpolated(a, b, part_x[x])
        for channel in range(channels):
            target, a, b = rounded[channel, i], lines[upper & 1, channel], lines[lower & 1, channel]
            for x in range(width):
                value = min(max(_interpolated(a[x], b[x], part_y[i]), np.float32(0)), np.float32(1))
                target[x] = np.rint(value * np.float32(255))
            if channel > 0:
                for x in rounded_twice:
                    value = a[x] + np.float32(part_y[i] * (b[x] - a[x]))
                    target[x] = np.rint(min(max(value, np.float32(0)), np.float32(1)) * np.float32(255))

"""Compiled inner loops for the CPU: a blur fused into the bilinear reduction after it, noise, and the way back up.

Bilinear reduction without antialias reads four blurred pixels for each one it gives, so most of a blurred image is
never looked at. The kernel of the blur, shifted by the four and blended, is applied at the places that are read and
nowhere else. The functions compile on first use and stay compiled on disk.
"""

# intrinsics are called without the typing context they are written with
# pyright: reportCallIssue=false

import numpy as np
from numba import njit

from ._normal import PIECES
from ._vector import weighted_rows, window_pairs

_SHIFT = np.uint32(23 - PIECES)
_FIRST = np.uint32(127 << PIECES)
_REST = np.uint32((1 << (23 - PIECES)) - 1)
_UNIT = np.float32(2.0 ** (PIECES - 23))
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)

_exact = njit(cache=True, nogil=True, error_model="numpy")


@_exact
def _reflect(place, size):
    """Reflect-101, repeated until inside."""
    if size == 1:
        return 0
    period = 2 * size - 2
    place = place % period
    return period - place if place >= size else place


@_exact
def unit_planes(planes):
    """Gives 8-bit planes as unit floats."""
    result = np.empty(planes.shape, np.float32)
    flat, source = result.reshape(-1), planes.reshape(-1)
    for place in range(flat.size):
        flat[place] = np.float32(source[place]) / np.float32(255)
    return result


@_exact
def padded_planes(planes, scale, half):
    """Gives planes as unit floats with reflect-101 columns on both sides, and room for vectors to run over.

    Args:
        planes: `3 H W`, uint8 or float32.
        scale: What the values are divided by: 255 or 1.
        half: Columns on the left; there are as many and 64 more on the right, the last of which are zero.
    """
    channels, height, width = planes.shape
    pitch = (width + 2 * half + 64 + 7) // 8 * 8
    result = np.zeros((channels, height, pitch), np.float32)
    for channel in range(channels):
        for y in range(height):
            line, source = result[channel, y], planes[channel, y]
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


@_exact
def _starts(first, taps, half, size, pitch):
    """Gives where each row that a kernel reads begins: `taps` of them from each first row on."""
    starts = np.empty(first.size * taps, np.int64)
    for output in range(first.size):
        for tap in range(taps):
            starts[output * taps + tap] = _reflect(first[output] - half + tap, size) * pitch
    return starts


@_exact
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
                    upper = _between(np.float32(sums[0, 2 * i]), np.float32(sums[1, 2 * i]), part_x[j])
                    lower = _between(np.float32(sums[0, 2 * i + 1]), np.float32(sums[1, 2 * i + 1]), part_x[j])
                    result[first + i, j, channel] = _between(upper, lower, part_y[first + i])
    return result


@_exact
def _between(a, b, way):
    """A fused multiply-add: the product is exact in double precision, and rounded to single once."""
    return np.float32(np.float64(way) * np.float64(b - a) + np.float64(a))


@_exact
def reduce_directly(image, kernel, rows, part_y, columns, part_x):
    """Gives the blurred and reduced image for any kernel, summing it where it is read.

    Args:
        image: `padded_planes` of the image with half the kernel.
        kernel: `size size`; taps that are 0 are passed over.
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


@_exact
def place_between(source, target):
    """Gives, for each of `target` places, the first of the two source places around it and the way to the second.

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


@_exact
def enlarge_levels(pixels, height, width, rounded):
    """Gives pixels resized bilinearly, as planes of 8-bit levels.

    Args:
        pixels: `h w 3`, unit.
        height, width: New size.
        rounded: Planes `3 height width`, uint8, to write to.
    """
    rows, part_y = place_between(pixels.shape[0], height)
    columns, part_x = place_between(pixels.shape[1], width)
    last_y, last_x = pixels.shape[0] - 1, pixels.shape[1] - 1
    channels = pixels.shape[2]
    lines = np.empty((2, channels, width), np.float32)
    held = np.full(2, -1, np.int64)
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
                        line[x] = _between(a, b, part_x[x])
        for channel in range(channels):
            target, a, b = rounded[channel, i], lines[upper & 1, channel], lines[lower & 1, channel]
            for x in range(width):
                value = min(max(_between(a[x], b[x], part_y[i]), np.float32(0)), np.float32(1))
                target[x] = np.rint(value * np.float32(255))


@_exact
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


@_exact
def _mixed(state):
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


@_exact
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

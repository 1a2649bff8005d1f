"""Compiled inner loops for the CPU: a blur fused into the bilinear reduction after it, noise, and the way back up.

Bilinear reduction without antialias reads four blurred pixels for each one it gives, so most of a blurred image is never
looked at. The kernel of the blur, shifted by the four and blended, is applied at the places that are read and nowhere
else. The functions compile on first use and stay compiled on disk.
"""

import numpy as np
from numba import njit

from ._normal import PIECES

_SHIFT = np.uint32(23 - PIECES)
_FIRST = np.uint32(127 << PIECES)
_REST = np.uint32((1 << (23 - PIECES)) - 1)
_UNIT = np.float32(2.0 ** (PIECES - 23))
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)

_compiled = njit(cache=True, nogil=True, fastmath={"contract"}, error_model="numpy")
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
def _blended(taps, fraction):
    """Gives a tap row for each output: taps at the left neighbour and at the right one, blended; a multiple of six."""
    outputs, size = fraction.size, taps.size
    padded = (size + 1 + 5) // 6 * 6
    result = np.zeros((outputs, padded), np.float32)
    for output in range(outputs):
        part = np.float64(fraction[output])
        for tap in range(size + 1):
            value = 0.0
            if tap < size:
                value += (1 - part) * taps[tap]
            if tap > 0:
                value += part * taps[tap - 1]
            result[output, tap] = value
    return result


@_compiled
def _six(target, weights, start, a, b, c, d, e, f):
    w0, w1, w2 = weights[start], weights[start + 1], weights[start + 2]
    w3, w4, w5 = weights[start + 3], weights[start + 4], weights[start + 5]
    for x in range(target.size):
        target[x] += w0 * a[x] + w1 * b[x] + w2 * c[x] + w3 * d[x] + w4 * e[x] + w5 * f[x]


@_compiled
def reduce_by_ranks(planes, taps_y, taps_x, rows, part_y, columns, part_x):
    """Gives the blurred and reduced image for a kernel that is a sum of outer products.

    Args:
        planes: `3 H W`, unit.
        taps_y, taps_x: `ranks size`: the kernel is the sum of their outer products.
        rows, part_y: Which two rows each output row lies between, and how far: first row and fraction.
        columns, part_x: The same for columns.

    Returns:
        `h w 3`.
    """
    channels, height, width = planes.shape
    ranks, size = taps_y.shape
    half = size // 2
    out_h, out_w = rows.size, columns.size
    result = np.empty((out_h, out_w, channels), np.float32)
    turned = np.empty((ranks, width, out_h), np.float32)
    sums = np.empty(out_h, np.float32)
    line = np.empty(width, np.float32)
    weights_y = [_blended(taps_y[rank], part_y) for rank in range(ranks)]
    weights_x = [_blended(taps_x[rank], part_x) for rank in range(ranks)]
    padded = weights_y[0].shape[1]
    place_y = np.empty((out_h, padded), np.int64)
    for i in range(out_h):
        for t in range(padded):
            place_y[i, t] = _reflect(rows[i] - half + min(t, size), height)
    place_x = np.empty((out_w, padded), np.int64)
    for j in range(out_w):
        for t in range(padded):
            place_x[j, t] = _reflect(columns[j] - half + min(t, size), width)
    for channel in range(channels):
        plane = planes[channel]
        for i in range(out_h):
            p = place_y[i]
            for rank in range(ranks):
                line[:] = 0
                for t in range(0, padded, 6):
                    _six(line, weights_y[rank][i], t, plane[p[t]], plane[p[t + 1]], plane[p[t + 2]],
                         plane[p[t + 3]], plane[p[t + 4]], plane[p[t + 5]])  # fmt: skip
                for x in range(width):
                    turned[rank, x, i] = line[x]
        for j in range(out_w):
            p = place_x[j]
            sums[:] = 0
            for rank in range(ranks):
                there = turned[rank]
                for t in range(0, padded, 6):
                    _six(sums, weights_x[rank][j], t, there[p[t]], there[p[t + 1]], there[p[t + 2]],
                         there[p[t + 3]], there[p[t + 4]], there[p[t + 5]])  # fmt: skip
            for i in range(out_h):
                result[i, j, channel] = sums[i]
    return result


@_compiled
def _rows(target, near, far, k0, s0, p0, k1, s1, p1):
    for lane in range(target.size):
        target[lane] += (near * k0[lane] + far * s0[lane]) * p0[lane] + (near * k1[lane] + far * s1[lane]) * p1[lane]


@_compiled
def reduce_directly(planes, kernel, low, high, rows, part_y, columns, part_x):
    """Gives the blurred and reduced image for any kernel, summing it where it is read.

    Args:
        planes: `3 H W`, unit.
        kernel: `size size`.
        low, high: First tap of each kernel row that counts, and one past the last.
        rows, part_y, columns, part_x: As for `reduce_by_ranks`.

    Returns:
        `h w 3`.
    """
    channels, height, width = planes.shape
    size = kernel.shape[0]
    half = size // 2
    out_h, out_w = rows.size, columns.size
    # lanes hold tap and channel side by side, in blocks of 32 so that the vector loop leaves no rest
    lanes = (channels * (size + 1) + 31) // 32 * 32
    padded = np.zeros((height, channels * width + lanes), np.float32)
    for x in range(width + size):
        source = _reflect(x - half, width)
        for y in range(height):
            for channel in range(channels):
                padded[y, x * channels + channel] = planes[channel, y, source]
    result = np.empty((out_h, out_w, channels), np.float32)
    blended = np.zeros((size + 1, lanes), np.float32)
    shifted = np.zeros((size + 1, lanes), np.float32)
    sums = np.empty(lanes, np.float32)
    place = np.empty(size + 1, np.int64)
    first = np.empty(size + 1, np.int64)
    last = np.empty(size + 1, np.int64)
    for ty in range(0, size + 1, 2):
        start, end = size, 0
        for near in range(max(ty - 1, 0), min(ty + 2, size)):
            start, end = min(start, low[near]), max(end, high[near])
        first[ty] = channels * start // 32 * 32
        last[ty] = (channels * (end + 1) + 31) // 32 * 32 if end > start else first[ty]
    for i in range(out_h):
        part = np.float64(part_y[i])
        for ty in range(size + 1):
            place[ty] = _reflect(rows[i] - half + ty, height)
            for tx in range(size):
                value = 0.0
                if ty < size:
                    value += (1 - part) * kernel[ty, tx]
                if ty > 0:
                    value += part * kernel[ty - 1, tx]
                for channel in range(channels):
                    blended[ty, tx * channels + channel] = value
                    shifted[ty, (tx + 1) * channels + channel] = value
        for j in range(out_w):
            far_x = part_x[j]
            near_x = np.float32(1) - far_x
            start = columns[j] * channels
            sums[:] = 0
            for ty in range(0, size + 1, 2):
                a, b = first[ty], last[ty]
                if b > a:
                    _rows(sums[a:b], near_x, far_x, blended[ty, a:b], shifted[ty, a:b],
                          padded[place[ty], start + a : start + b], blended[ty + 1, a:b], shifted[ty + 1, a:b],
                          padded[place[ty + 1], start + a : start + b])  # fmt: skip
            for channel in range(channels):
                total = 0.0
                for lane in range(channel, channels * (size + 1), channels):
                    total += sums[lane]
                result[i, j, channel] = total
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
    """Gives pixels resized bilinearly, as planes: 8-bit levels where `rounded`, unit floats on the 8-bit grid elsewhere.

    Args:
        pixels: `h w 3`, unit.
        height, width: New size.
        rounded: Planes `3 height width` to write to, of uint8 or float32.
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
                        # one rounding, as a fused multiply-add: the product is exact in double precision
                        line[x] = np.float32(np.float64(part_x[x]) * np.float64(b - a) + np.float64(a))
        way = np.float64(part_y[i])
        for channel in range(channels):
            _between(rounded[channel, i], lines[upper & 1, channel], lines[lower & 1, channel], way)


@_exact
def _between(target, a, b, way):
    for x in range(target.size):
        value = np.float32(way * np.float64(b[x] - a[x]) + np.float64(a[x]))
        value = min(max(value, np.float32(0)), np.float32(1))
        target[x] = np.rint(value * np.float32(255))


@_exact
def add_normal(pixels, key, sigma, grey, values, slopes):
    """Gives noisy pixels clipped to [0, 1]: the same numbers as `_normal.normals`, without the arrays between."""
    height, width, channels = pixels.shape
    result = np.empty_like(pixels)
    area = height * width
    base = _mixed(np.uint64(key))
    for place in range(area if grey else channels * area):
        bits = _mixed(base + np.uint64(place // 2 + 1) * _GOLDEN)
        half = np.uint32(bits >> np.uint64(32)) if place & 1 else np.uint32(bits & np.uint64(0xFFFFFFFF))
        pattern = np.float32((half >> np.uint32(1)) | np.uint32(1)).view(np.uint32)
        piece = (pattern >> _SHIFT) - _FIRST
        upper = values[piece] + np.float32(pattern & _REST) * _UNIT * slopes[piece]
        normal = -upper if half & np.uint32(1) else upper
        noise = normal * sigma / np.float32(255)
        y, x = (place % area) // width, place % width
        for channel in range(channels if grey else 1):
            here = channel if grey else place // area
            value = pixels[y, x, here] + noise
            result[y, x, here] = min(max(value, np.float32(0)), np.float32(1))
    return result


@_exact
def _mixed(state):
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))

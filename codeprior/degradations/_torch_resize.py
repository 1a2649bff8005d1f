"""Resizing of a batch in torch, each image from its own size to its own size.

Bilinear by OpenCV's rule is done with gathers and one rounding a pass, so that it gives OpenCV's bits. The other ways
are products with one sparse-looking matrix a side, in double precision.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from codeprior.kernels.blur_resize.reference import resized

from ._canvas import Canvas, routed
from ._torch_fused import fuses, resized_at_once
from .record import Values


def resize_canvas(canvas: Canvas, values: Values, rules: str, names: tuple[str, ...], mode: str) -> Canvas:
    """Gives each image at its new size, by its own interpolation."""
    new, fused = values["size"].astype(np.int64), fuses(canvas, mode)

    def way(name: str):
        if name == "bilinear" and rules == "cv2":
            return lambda part, samples: (resized_at_once if fused else bilinear)(part, new[samples])
        return lambda part, samples: _by_matrices(part, new[samples], name, rules)

    return routed(canvas, values["interpolation"], [way(name) for name in names])


def between(source: int, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Gives the first of the two source places around each target place, and the way to the second."""
    real = (np.arange(target) + 0.5) * (1.0 / (target / source)) - 0.5
    first = np.floor(real).astype(np.int64)
    part = real - first
    part[(first < 0) | (first >= source - 1)] = 0
    return np.clip(first, 0, source - 1), part


def bilinear(canvas: Canvas, new: np.ndarray) -> Canvas:
    """Gives each image at its new size, as OpenCV from 4.14 on gives it with Intel IPP on AVX2."""
    height, width = (int(side) for side in new.max(0))
    apart = _twice_rounded(canvas.sizes[:, 1], new[:, 1], width)
    result = resized(
        canvas.pixels,
        canvas.extent(),
        canvas.send(new, torch.int32),
        (height, width),
        apart=canvas.send(apart) if apart.any() else None,
    )
    return Canvas(result, new)


def _twice_rounded(old: np.ndarray, new: np.ndarray, length: int) -> NDArray[np.bool_]:
    """Says where OpenCV rounds product and sum apart, `b 3 W`; see `_native.twice_rounded`."""
    from ._native import twice_rounded

    result = np.zeros((len(new), 3, length), bool)
    for number, (source, target) in enumerate(zip(old, new, strict=True)):
        result[number, 1:, twice_rounded(int(source), int(target))] = True
    return result


def _by_matrices(canvas: Canvas, new: np.ndarray, name: str, rules: str) -> Canvas:
    height, width = new.max(0)
    sides = canvas.pixels.shape[-2:]
    vertical = np.zeros((len(new), height, sides[0]))
    horizontal = np.zeros((len(new), width, sides[1]))
    for number, (old, target) in enumerate(zip(canvas.sizes, new, strict=True)):
        vertical[number, : target[0], : old[0]] = matrix(int(old[0]), int(target[0]), name, rules)
        horizontal[number, : target[1], : old[1]] = matrix(int(old[1]), int(target[1]), name, rules)
    # what lies outside an image is undefined, and 0 times NaN is NaN
    clean = torch.where(canvas.inside(), canvas.pixels, 0).double()
    result = canvas.send(vertical)[:, None] @ clean @ canvas.send(horizontal)[:, None].mT
    return Canvas(result.float(), new)


def matrix(source: int, target: int, name: str, rules: str) -> NDArray[np.float64]:
    """Gives the weights with which each of `target` places sums the `source` places: `target source`."""
    weights = np.zeros((target, source))
    each = np.arange(target)
    if source == target:
        np.fill_diagonal(weights, 1)
    elif name == "nearest":
        weights[each, np.minimum(np.floor(each * (source / target)).astype(np.int64), source - 1)] = 1
    elif name == "bilinear" or (name == "area" and rules == "cv2" and target > source):
        first, part = between(source, target) if name == "bilinear" else _area_enlarged(source, target)
        np.add.at(weights, (each, first), 1 - part)
        np.add.at(weights, (each, np.minimum(first + 1, source - 1)), part)
    elif name == "bicubic":
        real = (each + 0.5) * (source / target) - 0.5
        first = np.floor(real).astype(np.int64)
        for tap in range(-1, 3):
            place = np.clip(first + tap, 0, source - 1)
            np.add.at(weights, (each, place), _cubic(np.abs(real - first - tap)))
    elif rules == "torch":
        for place in each:
            low, high = place * source // target, -(-(place + 1) * source // target)
            weights[place, low:high] = 1 / (high - low)
    else:
        scale = source / target
        for place in each:
            covered = np.minimum(np.arange(source) + 1, (place + 1) * scale) - np.maximum(
                np.arange(source), place * scale
            )
            weights[place] = np.maximum(covered, 0) / scale
    return weights


def _area_enlarged(source: int, target: int) -> tuple[np.ndarray, np.ndarray]:
    """What OpenCV does for area when it enlarges: bilinear towards the part of the next pixel that is covered."""
    each = np.arange(target)
    first = np.floor(each * (source / target)).astype(np.int64)
    part = (each + 1) - (first + 1) * (target / source)
    return np.minimum(first, source - 1), np.where(part <= 0, 0, part - np.floor(part))


def _cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' kernel with a = -0.75, as OpenCV and torch have it."""
    a = -0.75
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((distance - 5) * distance + 8) * distance * a - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0))

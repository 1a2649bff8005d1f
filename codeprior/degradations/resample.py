"""Changing the size: by a drawn factor, by a drawn scale, and back to the size the chain began with.

`cv2` rules: half-pixel centres, no antialias, coordinates in double precision, horizontal pass first, each pass one
fused multiply-add in single precision. `torch` rules: `torch.nn.functional.interpolate`.

One image is resized by OpenCV or torch. In a batch each image has its own old and new size. Bilinear resizing by
OpenCV's rule is then done with gathers and one rounding in each pass, or by the kernel that also blurs, so that it
gives OpenCV's bits. The other interpolations are products with one sparse matrix for each side, in double precision.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch.nn import functional as F

from codeprior.extras import needed

from ._canvas import Canvas, routed
from ._draws import Draws
from ._run import Mode
from .op import Kind, Op, Pixels, Sizes, ordered, reject
from .record import Values

Interpolation = Literal["bilinear", "bicubic", "area", "nearest"]
INTERPOLATIONS: tuple[Interpolation, ...] = ("bilinear", "bicubic", "area", "nearest")


class Resampling(Op):
    """A change of size; the record holds the new size in whole pixels and the interpolation."""

    interpolation: tuple[Interpolation, ...] | Interpolation
    rules: Literal["cv2", "torch"]

    def __post_init__(self) -> None:
        for name in self._modes():
            if name not in INTERPOLATIONS:
                known = ", ".join(INTERPOLATIONS)
                raise ValueError(f"{type(self).__name__}: expected an interpolation of {known}, got {name!r}.")
        if self.rules not in ("cv2", "torch"):
            raise ValueError(f"{type(self).__name__}: expected rules cv2 or torch, got {self.rules!r}.")

    def _modes(self) -> tuple[Interpolation, ...]:
        return (self.interpolation,) if isinstance(self.interpolation, str) else self.interpolation

    def _drawn(self, draws: Draws, new: np.ndarray) -> dict[str, np.ndarray]:
        modes = np.array([INTERPOLATIONS.index(name) for name in self._modes()], np.uint8)
        reject(
            self, (new < 1).any(1), "expected a result of one pixel or more; use a smaller factor or a larger image."
        )
        return {"size": new.astype(np.int32), "interpolation": modes[draws.choice([1] * len(modes))]}

    def _sizes(self, values: Values, sizes: Sizes) -> Sizes:
        return values["size"].astype(np.int64)

    def _check(self, values: Values, sizes: Sizes) -> None:
        reject(self, (values["size"] < 1).any(1), "expected a size of one pixel or more.")

    def _one(self, image: Pixels, values: Values, strict: bool) -> Pixels:
        height, width = (int(side) for side in values["size"])
        return resize_pixels(image, height, width, INTERPOLATIONS[int(values["interpolation"])], self.rules)

    def _batch(self, canvas: Canvas, values: Values, mode: Mode) -> Canvas:
        new, by_kernel = values["size"].astype(np.int64), has_resizing_kernel(canvas, mode)

        def branch(name: str):
            if name == "bilinear" and self.rules == "cv2":
                return lambda part, samples: (resized_by_kernel if by_kernel else resized_as_opencv)(part, new[samples])
            return lambda part, samples: _resized_by_matrices(part, new[samples], name, self.rules)

        return routed(canvas, values["interpolation"], [branch(name) for name in INTERPOLATIONS])

    def _kind(self, values: Values) -> Kind | None:
        bilinear = bool(np.all(values["interpolation"] == INTERPOLATIONS.index("bilinear")))
        return "bilinear" if bilinear and self.rules == "cv2" else None


@dataclass(frozen=True, kw_only=True)
class Resize(Resampling):
    """Divides both sides by a drawn factor: `int(side // factor)`, so 512 by 0.8 is 639.

    Args:
        factor: Range of the factor; below 1 enlarges.
        interpolation: How, or several of which one is drawn.
        rules: Whose arithmetic.
    """

    factor: tuple[float, float] = (0.8, 8)
    interpolation: tuple[Interpolation, ...] | Interpolation = "bilinear"
    rules: Literal["cv2", "torch"] = "cv2"

    def __post_init__(self) -> None:
        super().__post_init__()
        ordered(self, "factor")
        if not self.factor[0] > 0:
            raise ValueError(f"Resize: expected factors above 0, got {self.factor}.")

    def _draw(self, draws: Draws, sizes: Sizes, origin: Sizes) -> dict[str, np.ndarray]:
        return self._drawn(draws, (sizes // draws.uniform(*self.factor)[:, None]).astype(np.int64))


@dataclass(frozen=True, kw_only=True)
class Rescale(Resampling):
    """Multiplies the sides by a scale that is drawn up, down or 1: `int(side · scale)`.

    Args:
        scale: Lowest and highest scale; up draws U(1, highest), down U(lowest, 1).
        chances: Weights of up, down and keep.
        divide: The scale applies to the side the chain began with, divided by this; 0 means the side here.
        interpolation: How, or several of which one is drawn.
        rules: Whose arithmetic.
    """

    scale: tuple[float, float] = (0.15, 1.5)
    chances: tuple[float, float, float] = (0.2, 0.7, 0.1)
    divide: int = 0
    interpolation: tuple[Interpolation, ...] | Interpolation = ("area", "bilinear", "bicubic")
    rules: Literal["cv2", "torch"] = "torch"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.scale[0] <= 1 <= self.scale[1]:
            raise ValueError(f"Rescale: expected scale=(low, high) with 0 < low ≤ 1 ≤ high, got {self.scale}.")

    def _draw(self, draws: Draws, sizes: Sizes, origin: Sizes) -> dict[str, np.ndarray]:
        direction, unit = draws.choice(self.chances), draws.unit()
        low, high = self.scale
        scale = np.choose(direction, [1 + (high - 1) * unit, low + (1 - low) * unit, np.ones(len(unit))])
        start = origin / self.divide if self.divide else sizes
        return self._drawn(draws, (start * scale[:, None]).astype(np.int64))


@dataclass(frozen=True, kw_only=True)
class ResizeBack(Resampling):
    """Gives the size the chain began with, or a whole fraction of it.

    Args:
        divide: The sides are the first ones divided by this, rounded down.
        interpolation: How, or several of which one is drawn.
        rules: Whose arithmetic.
    """

    divide: int = 1
    interpolation: tuple[Interpolation, ...] | Interpolation = "bilinear"
    rules: Literal["cv2", "torch"] = "cv2"

    def _draw(self, draws: Draws, sizes: Sizes, origin: Sizes) -> dict[str, np.ndarray]:
        return self._drawn(draws, origin // self.divide)


_CV2 = {"bilinear": "INTER_LINEAR", "bicubic": "INTER_CUBIC", "area": "INTER_AREA", "nearest": "INTER_NEAREST"}


def resize_pixels(image: np.ndarray, height: int, width: int, interpolation: str, rules: str) -> np.ndarray:
    """Gives `H W 3` floats at another size."""
    if image.shape[:2] == (height, width):
        return image
    if rules == "cv2":
        cv2 = needed("cv2", who="resizing by the rules of OpenCV")

        how = getattr(cv2, _CV2[interpolation])
        if height <= image.shape[0] and width <= image.shape[1]:
            return cv2.resize(image, (width, height), interpolation=how)
        # in the outermost columns of an enlarged image the third channel is rounded differently, so the order is BGR
        flipped = np.ascontiguousarray(image[..., ::-1])
        return np.ascontiguousarray(cv2.resize(flipped, (width, height), interpolation=how)[..., ::-1])
    planes = torch.from_numpy(rearrange(image, "h w c -> 1 c h w"))
    aligned = False if interpolation in ("bilinear", "bicubic") else None
    planes = F.interpolate(planes, (height, width), mode=interpolation, align_corners=aligned)
    return np.ascontiguousarray(rearrange(planes.numpy(), "1 c h w -> h w c"))


def has_resizing_kernel(canvas: Canvas, mode: Mode) -> bool:
    """Says whether the kernel that blurs and resizes runs the batch; what it cannot do is done step by step."""
    from codeprior.kernels._choose import choose

    return mode == "fast" and choose("blur_resize", None, canvas.pixels.device.type) == "triton"


def resized_by_kernel(canvas: Canvas, new: np.ndarray, kernels: np.ndarray | None = None) -> Canvas:
    """Gives each image resized bilinearly by OpenCV's rule, in one launch with the blur before it.

    Args:
        canvas: The images.
        new: Height and width of each result: `b 2`.
        kernels: What each image is correlated with before, `b k k`; nothing by default.

    Returns:
        The results on a canvas of the largest size.
    """
    from codeprior.kernels.blur_resize import blur_resize

    kernels = np.ones((len(new), 1, 1)) if kernels is None else kernels
    height, width = (int(side) for side in new.max(0))
    result = blur_resize(
        canvas.pixels,
        canvas.send(kernels.astype(np.float32)),
        sizes=canvas.extent(),
        targets=canvas.send(new, torch.int32),
        canvas=(height, width),
    )
    return Canvas(result, new)


def resized_as_opencv(canvas: Canvas, new: np.ndarray) -> Canvas:
    """Gives each image at its new size, as OpenCV from 4.14 on gives it with Intel IPP on AVX2."""
    from codeprior.kernels.blur_resize.reference import resized

    height, width = (int(side) for side in new.max(0))
    rounded_twice = _rounded_twice(canvas.sizes[:, 1], new[:, 1], width)
    result = resized(
        canvas.pixels,
        canvas.extent(),
        canvas.send(new, torch.int32),
        (height, width),
        rounded_twice=canvas.send(rounded_twice) if rounded_twice.any() else None,
    )
    return Canvas(result, new)


def columns_rounded_twice(source: int, target: int) -> NDArray[np.int64]:
    """Gives the columns in which OpenCV rounds product and sum separately, in green and blue, when it enlarges.

    Found by comparison with OpenCV 5.0, whose Intel IPP ran on AVX2: columns beyond the first and last centres of the
    source go through another loop, two at a time; the rest, and red, are fused as everywhere else.

    Args:
        source: Width before, pixels.
        target: Width after, pixels.
    """
    scale = 1.0 / (target / source)
    low = np.floor((np.arange(target) + 0.5) * scale - 0.5)
    before = np.sum(low < 0)
    after = min(np.sum(low >= source - 1), target - before)
    return np.concatenate((np.arange(before // 2 * 2), target - after + np.arange(after // 2 * 2)))


def _rounded_twice(old: np.ndarray, new: np.ndarray, length: int) -> NDArray[np.bool_]:
    """Says where OpenCV rounds product and sum separately, `b 3 W`."""
    result = np.zeros((len(new), 3, length), bool)
    for number, (source, target) in enumerate(zip(old, new, strict=True)):
        result[number, 1:, columns_rounded_twice(int(source), int(target))] = True
    return result


def _resized_by_matrices(canvas: Canvas, new: np.ndarray, name: str, rules: str) -> Canvas:
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
        first, part = _source_places(source, target) if name == "bilinear" else _area_enlarged(source, target)
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


def _source_places(source: int, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Gives the first of the two source places around each target place, and the part of the way to the second."""
    real = (np.arange(target) + 0.5) * (1.0 / (target / source)) - 0.5
    first = np.floor(real).astype(np.int64)
    part = real - first
    part[(first < 0) | (first >= source - 1)] = 0
    return np.clip(first, 0, source - 1), part


def _area_enlarged(source: int, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Gives what OpenCV does for `area` when it enlarges: bilinear, by the part of the next pixel that is covered."""
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

"""Steps of a chain that cost less together: they are replaced by one step before the chain runs.

A chain is a plain list of steps, each an op with its values. A pattern names steps that follow one another, and makes
one step of them; `rewritten` puts it in their place. Ops say themselves which of the named steps they are (`Op._kind`).
On the CPU the conversions from planes to pixels and back are steps too, so that a fused step can begin with planes or
end with them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from codeprior.extras import needed

from ._canvas import Canvas, pixels_from_planes, planes_from_pixels
from ._run import Mode
from .blur import NEGLIGIBLE, gaussian_taps, is_separable, kernel_matrices, kernel_matrix
from .op import Kind, Op, Part, Pixels
from .record import Values, below, parts_of
from .resample import has_resizing_kernel, resize_pixels, resized_by_kernel


class Pattern(NamedTuple):
    """Steps that follow one another, and what makes one step of them."""

    kinds: tuple[Kind, ...]
    fused: Callable[..., Part]  # takes the steps, gives the one step


def rewritten(steps: Sequence[Part], patterns: Sequence[Pattern]) -> list[Part]:
    """Gives the steps, first to last, with the fused step wherever a pattern fits."""
    kinds = [op._kind(values) for op, values in steps]
    result, place = [], 0
    while place < len(steps):
        for pattern in patterns:
            end = place + len(pattern.kinds)
            if tuple(kinds[place:end]) == pattern.kinds:
                result.append(pattern.fused(*steps[place:end]))
                place = end
                break
        else:
            result.append(steps[place])
            place += 1
    return result


@dataclass(frozen=True, kw_only=True)
class FromPlanes(Op):
    """Takes planes of 8-bit levels or unit floats, gives pixels."""

    def _one(self, image: np.ndarray, values: Values, strict: bool) -> Pixels:
        return pixels_from_planes(image)

    def _kind(self, values: Values) -> Kind:
        return "planes in"


@dataclass(frozen=True, kw_only=True)
class ToPlanes(Op):
    """Takes pixels, gives planes.

    Args:
        dtype: `np.uint8` for levels, or `np.float32`.
    """

    dtype: type

    def _one(self, image: Pixels, values: Values, strict: bool) -> np.ndarray:
        return planes_from_pixels(image, self.dtype)

    def _kind(self, values: Values) -> Kind:
        return "planes out"


@dataclass(frozen=True, kw_only=True)
class BlurThenResize(Op):
    """A blur and the bilinear resizing after it: what the resizing does not read is not blurred.

    Args:
        blur: The first op.
        resize: The second.
    """

    blur: Op
    resize: Op

    def _one(self, image: np.ndarray, values: Values, strict: bool) -> Pixels:
        """Takes planes, gives pixels."""
        own = parts_of(values)
        height, width = (int(side) for side in own["resize"]["size"])
        return _blurred_and_resized(image, own["blur"], height, width)

    def _batch(self, canvas: Canvas, values: Values, mode: Mode) -> Canvas:
        own = parts_of(values)
        if has_resizing_kernel(canvas, mode):
            new = own["resize"]["size"].astype(np.int64)
            kernels = kernel_matrices(own["blur"])
            kernels[np.abs(kernels) < NEGLIGIBLE] = 0
            return resized_by_kernel(canvas, new, kernels)
        return self.resize._batch(self.blur._batch(canvas, own["blur"], mode), own["resize"], mode)


@dataclass(frozen=True, kw_only=True)
class ResizeThenRound(Op):
    """A bilinear resizing, the rounding after it and the conversion to planes.

    Args:
        dtype: `np.uint8` for levels, or `np.float32`.
    """

    dtype: type

    def _one(self, image: Pixels, values: Values, strict: bool) -> np.ndarray:
        from ._native import unit_planes
        from ._native_resize import resize_to_levels

        height, width = (int(side) for side in values["size"])
        planes = np.empty((3, height, width), np.uint8)
        resize_to_levels(np.ascontiguousarray(image), height, width, planes)
        return planes if self.dtype == np.uint8 else unit_planes(planes)


def _blur_then_resize(blur: Part, resize: Part) -> Part:
    return BlurThenResize(blur=blur[0], resize=resize[0]), below("blur", blur[1]) | below("resize", resize[1])


ON_ANY_DEVICE = (Pattern(("blur", "bilinear"), _blur_then_resize),)
"""What a batch is rewritten by; a device without the kernel does the two steps one after the other."""

ON_THE_CPU = (
    Pattern(("planes in", "blur", "bilinear"), lambda planes, blur, resize: _blur_then_resize(blur, resize)),
    Pattern(
        ("bilinear", "round", "planes out"),
        lambda resize, round_, planes: (ResizeThenRound(dtype=planes[0].dtype), resize[1]),
    ),
)
"""What one image is rewritten by."""


# nanoseconds, measured on a Zen 3 core: a block of 16 taps at an output pixel, and `cv2.filter2D`,
# with the conversion to its pixels and `cv2.resize` after it, at an input pixel
_DIRECT, _DENSE = 4.4, 75.0


def _blurred_and_resized(planes: np.ndarray, blur: Values, height: int, width: int) -> Pixels:
    """Gives planes, `3 H W` of uint8 or unit float32, blurred and resized bilinearly, the cheapest way: `h w 3`."""
    from . import _native_resize as native

    size = int(blur["size"])
    scale = np.float32(255 if planes.dtype == np.uint8 else 1)
    rows, part_y = native.source_places(planes.shape[1], height)
    columns, part_x = native.source_places(planes.shape[2], width)
    places = rows, part_y, columns, part_x
    kernel = kernel_matrix(blur)
    if is_separable(blur):
        # OpenCV rounds the kernel to single precision: keep the sum that this leaves it with
        excess = np.sqrt(kernel.astype(np.float32).sum(dtype=np.float64))
        taps_x, taps_y = (_between_zeros(gaussian_taps(size, float(sigma)) * excess) for sigma in blur["sigma"])
        image = native.padded_planes(planes, scale, size // 2)
        return native.reduce_separably(image, planes.shape[2], taps_y, taps_x, *places)
    kernel[kernel < NEGLIGIBLE] = 0
    blocks = sum(np.count_nonzero(kernel[:, first : first + 16].any(1)) for first in range(0, size, 16))
    if height * width * blocks * _DIRECT < planes.shape[1] * planes.shape[2] * _DENSE:
        image = native.padded_planes(planes, scale, size // 2)
        return native.reduce_directly(image, kernel, *places)
    cv2 = needed("cv2", who="a preset on the CPU")

    pixels = cv2.filter2D(pixels_from_planes(planes), -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    return resize_pixels(pixels, height, width, "bilinear", "cv2")


def _between_zeros(taps: np.ndarray) -> np.ndarray:
    result = np.zeros(len(taps) + 2)
    result[1:-1] = taps
    return result

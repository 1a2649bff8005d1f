"""Chooses how a blur and the bilinear reduction after it are done in one, from the cost of each way."""

import numpy as np

from ._kernels import gaussian_taps, is_separable, kernel_matrix
from ._resize import resize_pixels
from .record import Values

_NEGLIGIBLE = 1e-8  # weight below which a tap or an outer product changes no pixel by a float32 rounding


def blurred_and_reduced(planes: np.ndarray, blur: Values, height: int, width: int) -> np.ndarray:
    """Gives planes, `3 H W` of uint8 or unit float32, blurred and resized bilinearly: `height width 3`."""
    from . import _native

    if planes.dtype == np.uint8:
        planes = _native.unit_planes(planes)
    rows, part_y = _native.place_between(planes.shape[1], height)
    columns, part_x = _native.place_between(planes.shape[2], width)
    if is_separable(blur):
        size = int(blur["size"])
        taps = [gaussian_taps(size, float(sigma))[None] for sigma in blur["sigma"]]
        return _native.reduce_by_ranks(planes, taps[1], taps[0], rows, part_y, columns, part_x)
    kernel = kernel_matrix(blur)
    if _direct_cost(kernel, height, width) < 15:
        low, high = _support(kernel)
        return _native.reduce_directly(planes, kernel, low, high, rows, part_y, columns, part_x)
    import cv2

    pixels = np.ascontiguousarray(planes.transpose(1, 2, 0))
    return resize_pixels(cv2.filter2D(pixels, -1, kernel, borderType=cv2.BORDER_REFLECT_101), height, width, "bilinear", "cv2")


def enlarged_levels(pixels: np.ndarray, height: int, width: int, dtype: type) -> np.ndarray:
    """Gives unit pixels, `h w 3`, resized bilinearly and rounded to 8 bits: planes of uint8, or of unit float32."""
    from . import _native

    planes = np.empty((3, height, width), np.uint8)
    _native.enlarge_levels(np.ascontiguousarray(pixels), height, width, planes)
    return planes if dtype == np.uint8 else _native.unit_planes(planes)


def _direct_cost(kernel: np.ndarray, height: int, width: int) -> float:
    return height * width * 2.5e-3


def _support(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gives the first tap of each kernel row that counts, and one past the last."""
    counts = np.abs(kernel) > _NEGLIGIBLE
    low = counts.argmax(1)
    high = kernel.shape[1] - counts[:, ::-1].argmax(1)
    empty = ~counts.any(1)
    return np.where(empty, 0, low), np.where(empty, 0, high)

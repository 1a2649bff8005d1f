"""Chooses how a blur and the bilinear reduction after it are done in one, from the cost of each way."""

import numpy as np

from codeprior.extras import needed

from ._kernels import NEGLIGIBLE, gaussian_taps, is_separable, kernel_matrix
from ._pixels import pixels_from_planes
from ._resize import resize_pixels
from .record import Values

# nanoseconds, measured on a Zen 3 core: a block of 16 taps at an output pixel, and `cv2.filter2D`,
# with the way to its pixels and `cv2.resize` after it, at an input pixel
_DIRECT, _DENSE = 4.4, 75.0


def blurred_and_reduced(planes: np.ndarray, blur: Values, height: int, width: int) -> np.ndarray:
    """Gives planes, `3 H W` of uint8 or unit float32, blurred and resized bilinearly: `height width 3`."""
    from . import _native

    size = int(blur["size"])
    scale = np.float32(255 if planes.dtype == np.uint8 else 1)
    rows, part_y = _native.place_between(planes.shape[1], height)
    columns, part_x = _native.place_between(planes.shape[2], width)
    between = rows, part_y, columns, part_x
    kernel = kernel_matrix(blur)
    if is_separable(blur):
        # OpenCV rounds the kernel to single precision: keep the sum that this leaves it with
        excess = np.sqrt(kernel.astype(np.float32).sum(dtype=np.float64))
        taps_x, taps_y = (_between_zeros(gaussian_taps(size, float(sigma)) * excess) for sigma in blur["sigma"])
        image = _native.padded_planes(planes, scale, size // 2)
        return _native.reduce_separably(image, planes.shape[2], taps_y, taps_x, *between)
    kernel[kernel < NEGLIGIBLE] = 0
    blocks = sum(np.count_nonzero(kernel[:, first : first + 16].any(1)) for first in range(0, size, 16))
    if height * width * blocks * _DIRECT < planes.shape[1] * planes.shape[2] * _DENSE:
        image = _native.padded_planes(planes, scale, size // 2)
        return _native.reduce_directly(image, kernel, *between)
    cv2 = needed("cv2", who="a preset on the CPU")

    pixels = cv2.filter2D(pixels_from_planes(planes), -1, kernel, borderType=cv2.BORDER_REFLECT_101)
    return resize_pixels(pixels, height, width, "bilinear", "cv2")


def _between_zeros(taps: np.ndarray) -> np.ndarray:
    result = np.zeros(len(taps) + 2)
    result[1:-1] = taps
    return result


def enlarged_levels(pixels: np.ndarray, height: int, width: int, dtype: type) -> np.ndarray:
    """Gives unit pixels, `h w 3`, resized bilinearly and rounded to 8 bits: planes of uint8, or of unit float32."""
    from . import _native
    from ._native_pixels import unit_planes

    planes = np.empty((3, height, width), np.uint8)
    _native.enlarge_levels(np.ascontiguousarray(pixels), height, width, planes)
    return planes if dtype == np.uint8 else unit_planes(planes)

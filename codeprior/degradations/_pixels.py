"""Between planes, `3 H W` as tensors have them, and pixels, `H W 3` as OpenCV has them."""

import numpy as np
from einops import rearrange
from numpy.typing import NDArray


def pixels_from_planes(planes: np.ndarray) -> NDArray[np.float32]:
    """Gives unit pixels, `H W 3`, from planes of 8-bit levels or unit floats."""
    if planes.dtype == np.uint8:
        from ._native_pixels import unit_pixels

        return unit_pixels(np.ascontiguousarray(planes))
    return np.ascontiguousarray(rearrange(planes, "c h w -> h w c"))


def planes_from_pixels(pixels: np.ndarray, dtype: type) -> np.ndarray:
    """Gives planes, as floats unchanged or as 8-bit levels rounded half to even and clamped."""
    if dtype == np.uint8:
        pixels = levels(pixels)
    return np.ascontiguousarray(rearrange(pixels, "h w c -> c h w"))


def levels(pixels: np.ndarray) -> NDArray[np.uint8]:
    """Gives unit floats as 8-bit levels, rounded half to even and clamped."""
    return np.rint(np.clip(pixels, 0, 1) * np.float32(255)).astype(np.uint8)

"""The public JPEG: checks the shapes, chooses an implementation, and calls it."""

import numpy as np
from torch import Tensor

from codeprior.kernels._choose import choose
from codeprior.kernels.jpeg.reference import jpeg_reference

_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
_CHROMA = (
    (17, 18, 24, 47), (18, 21, 26, 66), (24, 26, 56, 99), (47, 66, 99, 99),
)  # fmt: skip


def jpeg(pixels: Tensor, sizes: Tensor, tables: Tensor, *, impl: str | None = None) -> Tensor:
    """Gives exactly what libjpeg compresses and decompresses to: 4:2:0, accurate integer DCT, fancy upsampling.

    Args:
        pixels: `b 3 H W`, RGB, unit, floating-point: each image in the upper left corner of its canvas. Values are
            clamped and rounded half to even to 8-bit levels; what lies outside an image is not read.
        sizes: Height and width of each image, pixels: `b 2`, int32, on the device of the pixels.
        tables: Quantization tables of luma and chroma, 1 to 255: `b 2 8 8`, int32; see `quality_tables`.
        impl: Implementation by name; None chooses (see `explain`).

    Returns:
        `b 3 H W`, unit, float32, on the 8-bit grid, without a gradient; undefined outside each image.

    Raises:
        ValueError: The shapes do not fit.
        ImplUnavailable: The implementation asked for by name cannot run here.
    """
    batch = len(pixels)
    if pixels.ndim != 4 or pixels.shape[1] != 3 or sizes.shape != (batch, 2) or tables.shape != (batch, 2, 8, 8):
        raise ValueError(
            f"jpeg: expected pixels (b, 3, H, W), sizes (b, 2) and tables (b, 2, 8, 8), got {tuple(pixels.shape)}, "
            f"{tuple(sizes.shape)} and {tuple(tables.shape)}."
        )
    if choose("jpeg", impl, str(pixels.device)) == "triton":
        from codeprior.kernels.jpeg.fused import jpeg_triton

        return jpeg_triton(pixels.detach(), sizes, tables)
    return jpeg_reference(pixels.detach(), sizes, tables)


def quality_tables(quality: np.ndarray) -> np.ndarray:
    """Gives the standard quantization tables of luma and chroma at each quality.

    Args:
        quality: Whole numbers from 1 to 100: `b`.

    Returns:
        `b 2 8 8`, int32, 1 to 255.
    """
    standard = np.full((2, 8, 8), 99)
    standard[0] = _LUMA
    standard[1, :4, :4] = _CHROMA
    quality = quality.astype(np.int64)[:, None, None, None]
    scale = np.where(quality < 50, 5000 // np.maximum(quality, 1), 200 - 2 * quality)
    return np.clip((standard * scale + 50) // 100, 1, 255).astype(np.int32)

"""libjpeg's arithmetic on a batch of images of their own sizes and qualities, without a mismatch.

JPEG is lossy only in whole-number steps; Huffman coding in between loses nothing and is left out. All sums stay below
2⁵³, so matrix products in double precision and `floor` are exact on every device. Steps, after the documented
algorithms of the Independent JPEG Group's library as libjpeg-turbo keeps them: RGB to YCC in 16-bit fixed point; 4:2:0
by the mean of four with a bias that alternates 1, 2; the accurate integer DCT of Loeffler, Ligtenberg and Moschytz;
division rounded half away from zero; and the way back with fancy upsampling.
"""

import functools

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from ._canvas import Canvas

_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
_CHROMA = (
    (17, 18, 24, 47), (18, 21, 26, 66), (24, 26, 56, 99), (47, 66, 99, 99),
)  # fmt: skip


def jpeg_canvas(canvas: Canvas, quality: np.ndarray, mode: str) -> Canvas:
    """Gives each image through JPEG of its own quality: unit floats on the 8-bit grid."""
    with torch.no_grad():
        result = exact_levels(canvas, quality) / 255
    result = result.float()
    if mode == "diff" and torch.is_grad_enabled() and canvas.pixels.requires_grad:
        from ._soft_jpeg import soft_canvas

        soft = soft_canvas(canvas, quality)
        result = result + (soft - soft.detach())
    return Canvas(result, canvas.sizes)


def exact_levels(canvas: Canvas, quality: np.ndarray) -> Tensor:
    """Gives the 8-bit levels that come back from libjpeg, as whole doubles: `b 3 H W`."""
    height, width = canvas.pixels.shape[-2:]
    tall, wide = (-(-side // 16) * 16 for side in (height, width))
    heights, widths = canvas.sizes[:, :1], canvas.sizes[:, 1:]
    rows = np.minimum(np.arange(tall)[None], heights - 1)
    columns = np.minimum(np.arange(wide)[None], widths - 1)
    levels = (canvas.gather(rows, columns).clamp(0, 1) * 255).round().double()
    ycc = to_ycc(levels)
    luma = _through(ycc[:, :1], canvas.send(tables(quality, chroma=False), torch.float64))
    small = Canvas(_subsampled(Canvas(ycc[:, 1:], canvas.sizes), tall, wide), -(-canvas.sizes // 2))
    chroma = _through(small.pixels, canvas.send(tables(quality, chroma=True), torch.float64))
    chroma = _upsampled(Canvas(chroma, small.sizes), tall, wide)
    return to_rgb(luma, chroma)[..., :height, :width]


@functools.cache
def dct_matrix() -> np.ndarray:
    """Gives the 8×8 forward transform at 2¹³, as the butterflies of the accurate integer DCT round it."""
    x = np.eye(8)
    outer = [x[k] + x[7 - k] for k in range(4)]
    inner = [x[k] - x[7 - k] for k in (3, 2, 1, 0)]  # tmp4, tmp5, tmp6, tmp7
    even, odd = (outer[0] + outer[3], outer[1] + outer[2]), (outer[1] - outer[2], outer[0] - outer[3])
    shared = (odd[0] + odd[1]) * 4433
    t4, t5, t6, t7 = inner
    z5 = (t4 + t6 + t5 + t7) * 9633
    z1, z2 = (t4 + t7) * -7373, (t5 + t6) * -20995
    z3, z4 = (t4 + t6) * -16069 + z5, (t5 + t7) * -3196 + z5
    return np.stack([
        (even[0] + even[1]) * 8192,
        t7 * 12299 + z1 + z4,
        shared + odd[1] * 6270,
        t6 * 25172 + z2 + z3,
        (even[0] - even[1]) * 8192,
        t5 * 16819 + z2 + z4,
        shared - odd[0] * 15137,
        t4 * 2446 + z1 + z3,
    ])  # fmt: skip


def tables(quality: np.ndarray, *, chroma: bool) -> np.ndarray:
    """Gives the standard quantization table at each quality: `b 8 8`."""
    standard = np.full((8, 8), 99)
    standard[:] = _LUMA if not chroma else 99
    if chroma:
        standard[:4, :4] = _CHROMA
    quality = quality.astype(np.int64)
    scale = np.where(quality < 50, 5000 // np.maximum(quality, 1), 200 - 2 * quality)
    return np.clip((standard[None] * scale[:, None, None] + 50) // 100, 1, 255)


def to_ycc(levels: Tensor) -> Tensor:
    """Gives luma and chroma, whole numbers in [0, 255], of RGB levels: `b 3 H W`."""
    red, green, blue = levels.unbind(1)
    return torch.stack([
        _floored(19595 * red + 38470 * green + 7471 * blue + 32768, 16),
        _floored(-11059 * red - 21709 * green + 32768 * blue + (128 << 16) + 32767, 16),
        _floored(32768 * red - 27439 * green - 5329 * blue + (128 << 16) + 32767, 16),
    ], 1)  # fmt: skip


def to_rgb(luma: Tensor, chroma: Tensor) -> Tensor:
    """Gives RGB levels of luma, `b 1 H W`, and chroma, `b 2 H W`."""
    luma, blue, red = luma[:, 0], chroma[:, 0] - 128, chroma[:, 1] - 128
    return torch.stack([
        luma + _floored(91881 * red + 32768, 16),
        luma + _floored(-22554 * blue - 46802 * red + 32768, 16),
        luma + _floored(116130 * blue + 32768, 16),
    ], 1).clamp(0, 255)  # fmt: skip


def _floored(value: Tensor, bits: int) -> Tensor:
    return torch.floor(value * 2.0**-bits)


def _descaled(value: Tensor, bits: int) -> Tensor:
    return torch.floor((value + 2.0 ** (bits - 1)) * 2.0**-bits)


def _through(planes: Tensor, table: Tensor) -> Tensor:
    """Gives planes, `b c H W` with sides in eights, transformed, quantized and back; `table` is `b 8 8`."""
    forward = torch.from_numpy(dct_matrix()).to(planes.device, non_blocking=True)
    blocks = rearrange(planes - 128, "b c (h y) (w x) -> b c h w y x", y=8, x=8)
    coefficients = _descaled(forward @ _descaled(blocks @ forward.mT, 11), 15)
    step = table[:, None, None, None]
    magnitude = torch.floor((coefficients.abs() + 4 * step) / (8 * step))
    quantized = torch.where(coefficients < 0, -magnitude, magnitude) * step
    back = _descaled(_descaled(forward.mT @ quantized, 11) @ forward, 18)
    return rearrange((back + 128).clamp(0, 255), "b c h w y x -> b c (h y) (w x)")


def _subsampled(chroma: Canvas, tall: int, wide: int) -> Tensor:
    """Gives the mean of four, `b 2 tall/2 wide/2`; rows below the image repeat the last subsampled one."""
    heights = chroma.sizes[:, :1]
    row = np.minimum(np.arange(tall // 2)[None], -(-heights // 2) - 1)
    column = np.tile(np.arange(wide), (len(heights), 1))
    pairs = chroma.gather(2 * row, column) + chroma.gather(np.minimum(2 * row + 1, heights - 1), column)
    bias = 1 + torch.arange(wide // 2, device=pairs.device) % 2
    return _floored(pairs[..., 0::2] + pairs[..., 1::2] + bias, 2)


def _upsampled(chroma: Canvas, tall: int, wide: int) -> Tensor:
    """Gives twice the size, 3:1 towards the nearer neighbour; plain repetition where it is two columns wide or less."""
    heights, widths = chroma.sizes[:, :1], chroma.sizes[:, 1:]
    row, column = np.arange(tall)[None] // 2, np.arange(wide)[None] // 2
    near_row, near_column = np.minimum(row, heights - 1), np.minimum(column, widths - 1)
    far_row = np.clip(row + np.where(np.arange(tall) % 2, 1, -1), 0, heights - 1)
    far_column = np.clip(column + np.where(np.arange(wide) % 2, 1, -1), 0, widths - 1)
    all_columns = np.tile(np.arange(chroma.pixels.shape[-1]), (len(heights), 1))
    all_rows = np.tile(np.arange(tall), (len(heights), 1))
    lines = Canvas(3 * chroma.gather(near_row, all_columns) + chroma.gather(far_row, all_columns), chroma.sizes)
    bias = 8 - torch.arange(wide, device=chroma.pixels.device) % 2
    fancy = _floored(3 * lines.gather(all_rows, near_column) + lines.gather(all_rows, far_column) + bias, 4)
    plain = chroma.gather(near_row, near_column)
    return torch.where(chroma.per_sample(chroma.sizes[:, 1] > 2), fancy, plain)

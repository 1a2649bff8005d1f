"""libjpeg's arithmetic in plain PyTorch, on a batch of images with sizes and tables of their own.

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

from codeprior.kernels._canvas import gathered


def jpeg_reference(pixels: Tensor, sizes: Tensor, tables: Tensor) -> Tensor:
    """Gives each image through JPEG with tables of its own; see `jpeg`."""
    height, width = pixels.shape[-2:]
    tall, wide = (-(-side // 16) * 16 for side in (height, width))
    rows = torch.minimum(_places(tall, sizes), sizes[:, :1] - 1)
    columns = torch.minimum(_places(wide, sizes), sizes[:, 1:] - 1)
    levels = (gathered(pixels, rows, columns).float().clamp(0, 1) * 255).round().double()
    ycc = _to_ycc(levels)
    steps = tables.double()
    luma = _through(ycc[:, :1], steps[:, 0])
    halves = (sizes + 1) // 2
    chroma = _through(_subsampled(ycc[:, 1:], sizes), steps[:, 1])
    levels = _to_rgb(luma, _upsampled(chroma, halves))[..., :height, :width]
    return (levels / 255).float()


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


def _places(count: int, sizes: Tensor) -> Tensor:
    return torch.arange(count, device=sizes.device)[None]


def _to_ycc(levels: Tensor) -> Tensor:
    """Gives luma and chroma, whole numbers in [0, 255], of RGB levels: `b 3 H W`."""
    red, green, blue = levels.unbind(1)
    return torch.stack([
        _floored(19595 * red + 38470 * green + 7471 * blue + 32768, 16),
        _floored(-11059 * red - 21709 * green + 32768 * blue + (128 << 16) + 32767, 16),
        _floored(32768 * red - 27439 * green - 5329 * blue + (128 << 16) + 32767, 16),
    ], 1)  # fmt: skip


def _to_rgb(luma: Tensor, chroma: Tensor) -> Tensor:
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


def _subsampled(chroma: Tensor, sizes: Tensor) -> Tensor:
    """Gives the mean of four, `b 2 H/2 W/2`; rows below the image repeat the last subsampled one."""
    tall, wide = chroma.shape[-2:]
    heights = sizes[:, :1]
    row = torch.minimum(_places(tall // 2, sizes), (heights + 1) // 2 - 1)
    column = _places(wide, sizes).expand(len(sizes), -1)
    pairs = gathered(chroma, 2 * row, column) + gathered(chroma, torch.minimum(2 * row + 1, heights - 1), column)
    bias = 1 + torch.arange(wide // 2, device=pairs.device) % 2
    return _floored(pairs[..., 0::2] + pairs[..., 1::2] + bias, 2)


def _upsampled(chroma: Tensor, sizes: Tensor) -> Tensor:
    """Gives twice the size, 3:1 towards the nearer neighbour; plain repetition where it is two columns wide or less."""
    tall, wide = (2 * side for side in chroma.shape[-2:])
    near_row, far_row = _neighbours(tall, sizes[:, :1])
    near_column, far_column = _neighbours(wide, sizes[:, 1:])
    all_columns = _places(chroma.shape[-1], sizes).expand(len(sizes), -1)
    all_rows = _places(tall, sizes).expand(len(sizes), -1)
    lines = 3 * gathered(chroma, near_row, all_columns) + gathered(chroma, far_row, all_columns)
    bias = 8 - torch.arange(wide, device=chroma.device) % 2
    fancy = _floored(3 * gathered(lines, all_rows, near_column) + gathered(lines, all_rows, far_column) + bias, 4)
    plain = gathered(chroma, near_row, near_column)
    return torch.where(sizes[:, 1, None, None, None] > 2, fancy, plain)


def _neighbours(count: int, size: Tensor) -> tuple[Tensor, Tensor]:
    """Gives, for each place at twice the size, the source place that it lies in and the one that it lies next to."""
    place = torch.arange(count, device=size.device)[None]
    near, far = place // 2, place // 2 + 2 * (place % 2) - 1
    return torch.minimum(near, size - 1), torch.minimum(far, size - 1).clamp(min=0)

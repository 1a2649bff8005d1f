"""JPEG as two Triton kernels in 32-bit whole numbers: blocks through the transforms, then colour and upsampling.

The first takes blocks of 8×8 pixels, a row of a block to each lane, through DCT, quantization and back, and leaves
8-bit planes of luma and of halved chroma. Between the passes over rows and over columns the blocks are transposed. Sums
may need more than 32 bits on the way but not at the end, so arithmetic modulo 2³² is exact. The second reads four
neighbours of the halved chroma for each pixel. A program of either kernel that lies outside its image ends at once.
"""

# Triton's language is not typed: what is a tensor or a constant is known to its compiler alone
# pyright: reportArgumentType=false, reportAssignmentType=false, reportCallIssue=false, reportGeneralTypeIssues=false
# pyright: reportOperatorIssue=false, reportAttributeAccessIssue=false, reportIndexIssue=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from codeprior.kernels._device import launching

BLOCKS, PIXELS, WARPS = 16, 512, 4
_ROUND = tl.constexpr(12582912.0)  # 1.5 · 2²³: adding it to a float32 below 2²² rounds half to even


@torch.library.custom_op("codeprior::jpeg_triton", mutates_args=())
def jpeg_triton(pixels: Tensor, sizes: Tensor, tables: Tensor) -> Tensor:
    """Images `b 3 H W`, unit, through JPEG with tables `b 2 8 8`; sizes `b 2`."""
    return launch(pixels, sizes, tables)


@jpeg_triton.register_fake
def _(pixels: Tensor, sizes: Tensor, tables: Tensor) -> Tensor:
    return pixels.new_empty(pixels.shape, dtype=torch.float32)


def launch(pixels: Tensor, sizes: Tensor, tables: Tensor, *, blocks: int = BLOCKS, lanes: int = PIXELS) -> Tensor:
    """Runs the kernels.

    Args:
        pixels: `b 3 H W`.
        sizes: `b 2`.
        tables: `b 2 8 8`.
        blocks: Blocks of a program of the first kernel; the result does not depend on it.
        lanes: Pixels of a program of the second.

    Returns:
        `b 3 H W`, float32.
    """
    batch, _, height, width = pixels.shape
    result = torch.empty(pixels.shape, dtype=torch.float32, device=pixels.device)
    if pixels.numel() == 0:
        return result
    pixels, sizes, tables = pixels.float(), sizes.int().contiguous(), tables.int().contiguous()
    tall, wide = (height + 15) // 16 * 16, (width + 15) // 16 * 16
    luma = torch.empty((batch, tall, wide), dtype=torch.uint8, device=pixels.device)
    chroma = torch.empty((batch, 2, tall // 2, wide // 2), dtype=torch.uint8, device=pixels.device)
    count = (tall // 8) * (wide // 8)
    with launching(pixels):
        for planes, number in ((luma, count), (chroma, 2 * (count // 4))):
            # fused with the product before it, the rounding would give another result
            jpeg_blocks[(triton.cdiv(number, blocks), batch)](
                pixels, sizes, tables, planes, tall, wide, *pixels.stride(),
                CHROMA=planes is chroma, BLOCKS=blocks, num_warps=WARPS, enable_fp_fusion=False,
            )  # fmt: skip
        jpeg_colours[(triton.cdiv(height * width, lanes), batch)](
            luma, chroma, sizes, result, tall, wide, height, width,
            PIXELS=lanes, num_warps=WARPS, enable_fp_fusion=False,
        )  # fmt: skip
    return result


@triton.jit
def jpeg_blocks(
    pixels_ptr, sizes_ptr, tables_ptr, planes_ptr, tall, wide, stride_b, stride_c, stride_y, stride_x,
    CHROMA: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    """Blocks `program_id(0) * BLOCKS …` of image `program_id(1)`, decoded, as 8-bit planes."""
    LANES: tl.constexpr = BLOCKS * 8
    sample = tl.program_id(1).to(tl.int64)
    height, width = tl.load(sizes_ptr + 2 * sample), tl.load(sizes_ptr + 2 * sample + 1)
    across, down = (width + 15) // 16, (height + 15) // 16
    if CHROMA:
        count = 2 * across * down
    else:
        across, down = 2 * across, 2 * down
        count = across * down
    first = tl.program_id(0) * BLOCKS
    if first >= count:
        return
    lane = tl.arange(0, LANES)
    block = tl.minimum(first + lane // 8, count - 1)
    # chroma blocks come in pairs: blue, then red, of the same place
    place = block // 2 if CHROMA else block
    row, column = (place // across) * 8 + lane % 8, (place % across) * 8
    columns = column[:, None] + tl.arange(0, 8)[None, :]
    base = pixels_ptr + sample * stride_b
    if CHROMA:
        red = (block % 2 == 1)[:, None]
        near = tl.minimum(row, (height + 1) // 2 - 1) * 2
        total = _chroma(base, red, near, columns, 0, height, width, stride_c, stride_y, stride_x)
        total += _chroma(base, red, near, columns, 1, height, width, stride_c, stride_y, stride_x)
        values = ((total + 1 + columns % 2) >> 2) - 128
        target = planes_ptr + (sample * 2 + block % 2) * (tall // 2) * (wide // 2) + row * (wide // 2)
    else:
        r, g, b = _levels(base, row, columns, height, width, stride_c, stride_y, stride_x)
        values = ((19595 * r + 38470 * g + 7471 * b + 32768) >> 16) - 128
        target = planes_ptr + sample * tall * wide + row * wide

    x0, x1, x2, x3, x4, x5, x6, x7 = _split(values, LANES)
    x0, x1, x2, x3, x4, x5, x6, x7 = _forward(x0, x1, x2, x3, x4, x5, x6, x7, 11)
    x0, x1, x2, x3, x4, x5, x6, x7 = _split(_turned(_join(x0, x1, x2, x3, x4, x5, x6, x7, LANES), BLOCKS), LANES)
    x0, x1, x2, x3, x4, x5, x6, x7 = _forward(x0, x1, x2, x3, x4, x5, x6, x7, 15)
    steps = tables_ptr + sample * 128 + (64 if CHROMA else 0) + lane % 8
    x0, x1 = _quantized(x0, tl.load(steps)), _quantized(x1, tl.load(steps + 8))
    x2, x3 = _quantized(x2, tl.load(steps + 16)), _quantized(x3, tl.load(steps + 24))
    x4, x5 = _quantized(x4, tl.load(steps + 32)), _quantized(x5, tl.load(steps + 40))
    x6, x7 = _quantized(x6, tl.load(steps + 48)), _quantized(x7, tl.load(steps + 56))
    x0, x1, x2, x3, x4, x5, x6, x7 = _inverse(x0, x1, x2, x3, x4, x5, x6, x7, 11)
    x0, x1, x2, x3, x4, x5, x6, x7 = _split(_turned(_join(x0, x1, x2, x3, x4, x5, x6, x7, LANES), BLOCKS), LANES)
    x0, x1, x2, x3, x4, x5, x6, x7 = _inverse(x0, x1, x2, x3, x4, x5, x6, x7, 18)
    decoded = _join(x0, x1, x2, x3, x4, x5, x6, x7, LANES) + 128
    decoded = tl.minimum(tl.maximum(decoded, 0), 255).to(tl.uint8)
    tl.store(target[:, None] + columns, decoded, mask=(first + lane // 8 < count)[:, None])


@triton.jit
def jpeg_colours(
    luma_ptr, chroma_ptr, sizes_ptr, result_ptr, tall, wide, pitch_y, pitch_x, PIXELS: tl.constexpr
):  # fmt: skip
    """Pixels `program_id(0) * PIXELS …` of image `program_id(1)`: chroma at full size, and colours, unit."""
    sample = tl.program_id(1).to(tl.int64)
    height, width = tl.load(sizes_ptr + 2 * sample), tl.load(sizes_ptr + 2 * sample + 1)
    first = tl.program_id(0) * PIXELS
    if first >= height * width:
        return
    place = first + tl.arange(0, PIXELS)
    inside = place < height * width
    row, column = place // width, place % width
    luma = tl.load(luma_ptr + sample * tall * wide + row * wide + column, mask=inside, other=0).to(tl.int32)
    rows, columns = (height + 1) // 2, (width + 1) // 2
    near_row, near_column = row // 2, column // 2
    far_row = tl.minimum(tl.maximum(near_row + (row % 2) * 2 - 1, 0), rows - 1)
    far_column = tl.minimum(tl.maximum(near_column + (column % 2) * 2 - 1, 0), columns - 1)
    area = (tall // 2) * (wide // 2)
    blue_ptr = chroma_ptr + sample * 2 * area
    narrow, pitch, bias = columns <= 2, wide // 2, 8 - column % 2
    blue = _upsampled(blue_ptr, near_row, far_row, near_column, far_column, pitch, bias, narrow, inside)
    red = _upsampled(blue_ptr + area, near_row, far_row, near_column, far_column, pitch, bias, narrow, inside)
    target = result_ptr + sample * 3 * pitch_y * pitch_x + row * pitch_x + column
    _store_unit(target, luma + ((91881 * red + 32768) >> 16), inside)
    _store_unit(target + pitch_y * pitch_x, luma + ((-22554 * blue - 46802 * red + 32768) >> 16), inside)
    _store_unit(target + 2 * pitch_y * pitch_x, luma + ((116130 * blue + 32768) >> 16), inside)


@triton.jit
def _levels(base, row, columns, height, width, stride_c, stride_y, stride_x):
    """The 8-bit levels of a row of pixels to each lane, the last row and column repeated."""
    down = tl.minimum(row, height - 1).to(tl.int64) * stride_y
    at = base + down[:, None] + tl.minimum(columns, width - 1) * stride_x
    return _level(tl.load(at)), _level(tl.load(at + stride_c)), _level(tl.load(at + 2 * stride_c))


@triton.jit
def _level(value):
    unit = tl.minimum(tl.maximum(value, 0.0), 1.0)
    return ((unit * 255.0 + _ROUND) - _ROUND).to(tl.int32)


@triton.jit
def _chroma(base, red, near, columns, below, height, width, stride_c, stride_y, stride_x):
    """The sum of the chroma of two pixels beside each other, in the upper or lower row of the four."""
    r, g, b = _levels(base, near + below, columns * 2, height, width, stride_c, stride_y, stride_x)
    total = _one_chroma(r, g, b, red)
    r, g, b = _levels(base, near + below, columns * 2 + 1, height, width, stride_c, stride_y, stride_x)
    return total + _one_chroma(r, g, b, red)


@triton.jit
def _one_chroma(r, g, b, red):
    first, last = tl.where(red, 32768, -11059), tl.where(red, -5329, 32768)
    return (first * r + tl.where(red, -27439, -21709) * g + last * b + 8421375) >> 16


@triton.jit
def _upsampled(chroma_ptr, near_row, far_row, near_column, far_column, pitch, bias, narrow, inside):
    """Chroma without its offset, 9:3:3:1 over the four nearest, or plain repetition."""
    near, far = chroma_ptr + near_row * pitch, chroma_ptr + far_row * pitch
    nearest = tl.load(near + near_column, mask=inside, other=0).to(tl.int32)
    here = 3 * nearest + tl.load(far + near_column, mask=inside, other=0).to(tl.int32)
    beside = 3 * tl.load(near + far_column, mask=inside, other=0).to(tl.int32)
    beside += tl.load(far + far_column, mask=inside, other=0).to(tl.int32)
    return tl.where(narrow, nearest, (3 * here + beside + bias) >> 4) - 128


@triton.jit
def _store_unit(target, level, inside):
    level = tl.minimum(tl.maximum(level, 0), 255).to(tl.float32)
    tl.store(target, tl.div_rn(level, tl.full(level.shape, 255.0, tl.float32)), mask=inside)


@triton.jit
def _quantized(coefficient, step):
    """Divided by eight steps, rounded half away from zero, and multiplied again."""
    magnitude = (tl.abs(coefficient) + 4 * step) // (8 * step) * step
    return tl.where(coefficient < 0, -magnitude, magnitude)


@triton.jit
def _descaled(value, BITS: tl.constexpr):
    return (value + (1 << (BITS - 1))) >> BITS


@triton.jit
def _forward(x0, x1, x2, x3, x4, x5, x6, x7, BITS: tl.constexpr):
    """The forward transform of eight numbers in each lane, at 2¹³, descaled."""
    s0, s1, s2, s3 = x0 + x7, x1 + x6, x2 + x5, x3 + x4
    t7, t6, t5, t4 = x0 - x7, x1 - x6, x2 - x5, x3 - x4
    shared = (s1 - s2 + s0 - s3) * 4433
    z5 = (t4 + t5 + t6 + t7) * 9633
    z1, z2 = (t4 + t7) * -7373, (t5 + t6) * -20995
    z3, z4 = (t4 + t6) * -16069 + z5, (t5 + t7) * -3196 + z5
    return (
        _descaled((s0 + s3 + s1 + s2) * 8192, BITS),
        _descaled(t7 * 12299 + z1 + z4, BITS),
        _descaled(shared + (s0 - s3) * 6270, BITS),
        _descaled(t6 * 25172 + z2 + z3, BITS),
        _descaled((s0 + s3 - s1 - s2) * 8192, BITS),
        _descaled(t5 * 16819 + z2 + z4, BITS),
        _descaled(shared - (s1 - s2) * 15137, BITS),
        _descaled(t4 * 2446 + z1 + z3, BITS),
    )


@triton.jit
def _inverse(c0, c1, c2, c3, c4, c5, c6, c7, BITS: tl.constexpr):
    """The transposed transform of eight numbers in each lane, at 2¹³, descaled."""
    shared = (c2 + c6) * 4433
    near, far = shared + c2 * 6270, shared - c6 * 15137
    plus, minus = (c0 + c4) * 8192, (c0 - c4) * 8192
    e0, e3, e1, e2 = plus + near, plus - near, minus + far, minus - far
    z5 = (c1 + c3 + c5 + c7) * 9633
    z1, z2 = (c7 + c1) * -7373, (c5 + c3) * -20995
    z3, z4 = (c7 + c3) * -16069 + z5, (c5 + c1) * -3196 + z5
    o3, o2 = c7 * 2446 + z1 + z3, c5 * 16819 + z2 + z4
    o1, o0 = c3 * 25172 + z2 + z3, c1 * 12299 + z1 + z4
    return (
        _descaled(e0 + o0, BITS),
        _descaled(e1 + o1, BITS),
        _descaled(e2 + o2, BITS),
        _descaled(e3 + o3, BITS),
        _descaled(e3 - o3, BITS),
        _descaled(e2 - o2, BITS),
        _descaled(e1 - o1, BITS),
        _descaled(e0 - o0, BITS),
    )


@triton.jit
def _split(rows, LANES: tl.constexpr):
    """The eight columns of `LANES 8`."""
    even, odd = tl.split(tl.reshape(rows, (LANES, 4, 2)))
    even, middle = tl.split(tl.reshape(even, (LANES, 2, 2)))
    odd, last = tl.split(tl.reshape(odd, (LANES, 2, 2)))
    x0, x4 = tl.split(even)
    x2, x6 = tl.split(middle)
    x1, x5 = tl.split(odd)
    x3, x7 = tl.split(last)
    return x0, x1, x2, x3, x4, x5, x6, x7


@triton.jit
def _join(x0, x1, x2, x3, x4, x5, x6, x7, LANES: tl.constexpr):
    even = tl.join(tl.join(x0, x4), tl.join(x2, x6))
    odd = tl.join(tl.join(x1, x5), tl.join(x3, x7))
    return tl.reshape(tl.join(even, odd), (LANES, 8))


@triton.jit
def _turned(rows, BLOCKS: tl.constexpr):
    """Each block of eight lanes transposed."""
    return tl.reshape(tl.permute(tl.reshape(rows, (BLOCKS, 8, 8)), (0, 2, 1)), (BLOCKS * 8, 8))

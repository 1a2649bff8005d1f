"""Blur and bilinear resizing as one Triton kernel: one walk over the taps makes a pixel of three channels.

Bilinear resizing reads four blurred pixels for each one that it gives. The windows of the four overlap in all but one
row and one column, so every source pixel is loaded once and goes into four sums, with the weights of four taps beside
each other. A row is summed in single precision, the rows in double; then each of the four is rounded to single, as if
the image had been blurred. The window is as large as the sample's own kernel; a program outside its image ends at once.
"""

# Triton's language is not typed: what is a tensor or a constant is known to its compiler alone
# pyright: reportArgumentType=false, reportAssignmentType=false, reportCallIssue=false, reportGeneralTypeIssues=false
# pyright: reportOperatorIssue=false, reportAttributeAccessIssue=false, reportIndexIssue=false

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional as F

from codeprior.kernels._device import launching

PIXELS, WARPS = 128, 4


@torch.library.custom_op("codeprior::blur_resize_triton", mutates_args=())
def blur_resize_triton(
    pixels: Tensor, kernels: Tensor, sizes: Tensor, targets: Tensor, height: int, width: int
) -> Tensor:
    """Images `b 3 H W` with kernels `b k k`, from `sizes` to `targets`, on a canvas `b 3 height width`."""
    return launch(pixels, kernels, sizes, targets, (height, width))


@blur_resize_triton.register_fake
def _(pixels: Tensor, kernels: Tensor, sizes: Tensor, targets: Tensor, height: int, width: int) -> Tensor:
    return pixels.new_empty((len(pixels), 3, height, width), dtype=torch.float32)


def launch(
    pixels: Tensor, kernels: Tensor, sizes: Tensor, targets: Tensor, canvas: tuple[int, int], *, lanes: int = PIXELS
) -> Tensor:
    """Runs the kernel.

    Args:
        pixels: `b 3 H W`.
        kernels: `b k k`.
        sizes: `b 2`.
        targets: `b 2`.
        canvas: Height and width of the results' canvas.
        lanes: Output pixels of a program; the result does not depend on it.

    Returns:
        `b 3` on the new canvas, float32.
    """
    result = torch.empty((len(pixels), 3, *canvas), dtype=torch.float32, device=pixels.device)
    if pixels.numel() == 0:
        return result
    half = kernels.shape[-1] // 2
    away = torch.arange(-half, half + 1, device=kernels.device).abs()
    reach = torch.where(kernels != 0, torch.maximum(away[:, None], away[None]), 0).amax((1, 2)).int()
    pixels = pixels.float()
    with launching(pixels):
        blur_resize_taps[(triton.cdiv(canvas[0] * canvas[1], lanes), len(pixels))](
            pixels, F.pad(kernels.float(), (1, 1, 1, 1)), reach, sizes.int().contiguous(), targets.int().contiguous(),
            result, half, *pixels.stride(), *canvas,
            # coordinates are products and sums, each rounded
            PIXELS=lanes, num_warps=WARPS, enable_fp_fusion=False,
        )  # fmt: skip
    return result


@triton.jit
def blur_resize_taps(
    pixels_ptr, kernels_ptr, reach_ptr, sizes_ptr, targets_ptr, result_ptr, half,
    stride_b, stride_c, stride_y, stride_x, pitch_y, pitch_x, PIXELS: tl.constexpr,
):  # fmt: skip
    """Pixels `program_id(0) * PIXELS …` of result `program_id(1)`."""
    sample = tl.program_id(1).to(tl.int64)
    height, width = tl.load(sizes_ptr + 2 * sample), tl.load(sizes_ptr + 2 * sample + 1)
    tall, wide = tl.load(targets_ptr + 2 * sample), tl.load(targets_ptr + 2 * sample + 1)
    first = tl.program_id(0) * PIXELS
    if first >= tall * wide:
        return
    place = first + tl.arange(0, PIXELS)
    inside = place < tall * wide
    row, column = tl.minimum(place // wide, tall - 1), place % wide
    top, part_y = _between(row, height, tall)
    left, part_x = _between(column, width, wide)
    reach = tl.load(reach_ptr + sample)
    again = (height < reach + 2) | (width < reach + 2)
    base = pixels_ptr + sample * stride_b
    pitch = 2 * half + 3  # kernels have a border of zeros
    middle = kernels_ptr + sample * pitch * pitch + (half + 1) * pitch + half + 1

    nothing = tl.zeros((PIXELS,), tl.float64)
    red_a, red_b, red_c, red_d = nothing, nothing, nothing, nothing
    green_a, green_b, green_c, green_d = nothing, nothing, nothing, nothing
    blue_a, blue_b, blue_c, blue_d = nothing, nothing, nothing, nothing
    for y in range(-reach, reach + 2):
        lines = base + _folded(top + y, height, again).to(tl.int64) * stride_y
        taps = middle + y * pitch
        empty = tl.zeros((PIXELS,), tl.float32)
        r_a, r_b, r_c, r_d = empty, empty, empty, empty
        g_a, g_b, g_c, g_d = empty, empty, empty, empty
        b_a, b_b, b_c, b_d = empty, empty, empty, empty
        before, before_up = 0.0, 0.0
        for x in range(-reach, reach + 2):
            # the left two of the four blurred pixels take this column by its own tap, the right two by the one before
            here, up = tl.load(taps + x), tl.load(taps + x - pitch)
            at = lines + _folded(left + x, width, again) * stride_x
            r_a, r_b, r_c, r_d = _added(tl.load(at), here, before, up, before_up, r_a, r_b, r_c, r_d)
            g_a, g_b, g_c, g_d = _added(tl.load(at + stride_c), here, before, up, before_up, g_a, g_b, g_c, g_d)
            b_a, b_b, b_c, b_d = _added(tl.load(at + 2 * stride_c), here, before, up, before_up, b_a, b_b, b_c, b_d)
            before, before_up = here, up
        red_a, red_b, red_c, red_d = red_a + r_a, red_b + r_b, red_c + r_c, red_d + r_d
        green_a, green_b, green_c, green_d = green_a + g_a, green_b + g_b, green_c + g_c, green_d + g_d
        blue_a, blue_b, blue_c, blue_d = blue_a + b_a, blue_b + b_b, blue_c + b_c, blue_d + b_d
    target = result_ptr + sample * 3 * pitch_y * pitch_x + row * pitch_x + column
    tl.store(target, _of_four(red_a, red_b, red_c, red_d, part_x, part_y), mask=inside)
    target += pitch_y * pitch_x
    tl.store(target, _of_four(green_a, green_b, green_c, green_d, part_x, part_y), mask=inside)
    target += pitch_y * pitch_x
    tl.store(target, _of_four(blue_a, blue_b, blue_c, blue_d, part_x, part_y), mask=inside)


@triton.jit
def _between(place, size, target):
    """The first of the two source places around a place, and the share of the way to the second, double."""
    scale = 1.0 / (target.to(tl.float64) / size.to(tl.float64))
    real = (place.to(tl.float64) + 0.5) * scale - 0.5
    low = tl.floor(real)
    beyond = (low < 0) | (low >= size - 1)
    part = tl.where(beyond, 0.0, real - low).to(tl.float32)
    return tl.minimum(tl.maximum(low.to(tl.int32), 0), size - 1), part


@triton.jit
def _folded(place, size, again):
    """Reflect-101: once; where the window is larger than the image, again until the place is inside."""
    if again:
        period = tl.maximum(2 * size - 2, 1)
        place = (place % period + period) % period
        place = tl.where(place >= size, period - place, place)
    else:
        place = tl.where(place < 0, -place, place)
        place = tl.where(place >= size, 2 * size - 2 - place, place)
    return place


@triton.jit
def _added(value, here, before, up, before_up, a, b, c, d):
    """The sums of the pixels above left, above right, below left and below right, with one source pixel added."""
    return tl.fma(value, here, a), tl.fma(value, before, b), tl.fma(value, up, c), tl.fma(value, before_up, d)


@triton.jit
def _of_four(a, b, c, d, part_x, part_y):
    above = _blended(a.to(tl.float32), b.to(tl.float32), part_x)
    below = _blended(c.to(tl.float32), d.to(tl.float32), part_x)
    return _blended(above, below, part_y)


@triton.jit
def _blended(a, b, way):
    """A fused multiply-add of single precision: the product is exact in double."""
    return (way.to(tl.float64) * (b - a).to(tl.float64) + a.to(tl.float64)).to(tl.float32)

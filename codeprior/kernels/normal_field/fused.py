"""The normal field as one Triton kernel: a draw of 64 bits gives two numbers, to a lane and its neighbour.

Whole numbers wrap, and products and sums are rounded one by one, so the result equals the reference's bit for bit.
"""

# Triton's language is not typed: what is a tensor or a constant is known to its compiler alone
# pyright: reportArgumentType=false, reportAssignmentType=false, reportCallIssue=false, reportGeneralTypeIssues=false
# pyright: reportOperatorIssue=false, reportAttributeAccessIssue=false, reportIndexIssue=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from codeprior.kernels._device import launching
from codeprior.kernels.normal_field import reference

PIXELS, WARPS = 512, 4
_GOLDEN = tl.constexpr(reference.GOLDEN)
_FIRST, _SECOND = tl.constexpr(reference.FIRST), tl.constexpr(reference.SECOND)
_SHIFT, _ONE = tl.constexpr(23 - reference.PIECES), tl.constexpr(127 << reference.PIECES)
_REST, _UNIT = tl.constexpr((1 << 23 - reference.PIECES) - 1), tl.constexpr(2.0 ** (reference.PIECES - 23))


@torch.library.custom_op("codeprior::normal_field_triton", mutates_args=())
def normal_field_triton(
    keys: Tensor, shared: Tensor, sizes: Tensor, quantiles: Tensor, height: int, width: int
) -> Tensor:
    """Normal numbers `b 3 height width` of keys `b`."""
    return launch(keys, shared, sizes, quantiles, (height, width))


@normal_field_triton.register_fake
def _(keys: Tensor, shared: Tensor, sizes: Tensor, quantiles: Tensor, height: int, width: int) -> Tensor:
    return keys.new_empty((len(keys), 3, height, width), dtype=torch.float32)


def launch(
    keys: Tensor, shared: Tensor, sizes: Tensor, quantiles: Tensor, canvas: tuple[int, int], *, lanes: int = PIXELS
) -> Tensor:
    """Runs the kernel.

    Args:
        keys: `b`.
        shared: `b`.
        sizes: `b 2`.
        quantiles: `2 2048`.
        canvas: Height and width of the canvas.
        lanes: Pixels of a program; the result does not depend on it.

    Returns:
        `b 3` on the canvas, float32.
    """
    result = torch.empty((len(keys), 3, *canvas), dtype=torch.float32, device=keys.device)
    if result.numel() == 0:
        return result
    with launching(keys):
        normal_pixels[(triton.cdiv(canvas[0] * canvas[1], lanes), len(keys))](
            keys.contiguous(), shared.int(), sizes.int().contiguous(), quantiles.contiguous(), result, *canvas,
            PIXELS=lanes, num_warps=WARPS, enable_fp_fusion=False,
        )  # fmt: skip
    return result


@triton.jit
def normal_pixels(
    keys_ptr, shared_ptr, sizes_ptr, quantiles_ptr, result_ptr, pitch_y, pitch_x, PIXELS: tl.constexpr
):  # fmt: skip
    """Pixels `program_id(0) * PIXELS …` of image `program_id(1)`, all channels."""
    sample = tl.program_id(1).to(tl.int64)
    height, width = tl.load(sizes_ptr + 2 * sample), tl.load(sizes_ptr + 2 * sample + 1)
    first = tl.program_id(0) * PIXELS
    if first >= height * width:
        return
    pixel = first + tl.arange(0, PIXELS)
    inside = pixel < height * width
    base = tl.load(keys_ptr + sample).to(tl.uint64, bitcast=True)
    step = tl.where(tl.load(shared_ptr + sample) != 0, 0, height * width)
    target = result_ptr + sample * 3 * pitch_y * pitch_x + (pixel // width) * pitch_x + pixel % width
    for channel in tl.static_range(3):
        number = _normal(base, pixel + channel * step, quantiles_ptr)
        tl.store(target + channel * pitch_y * pitch_x, number, mask=inside)


@triton.jit
def _normal(base, place, quantiles_ptr):
    """The number at each place of a key."""
    bits = _mixed(base + ((place >> 1) + 1).to(tl.uint64) * _GOLDEN)
    half = tl.where(place & 1 != 0, bits >> 32, bits & 0xFFFFFFFF).to(tl.uint32)
    pattern = ((half >> 1) | 1).to(tl.float32).to(tl.int32, bitcast=True)
    at = quantiles_ptr + ((pattern >> _SHIFT) - _ONE)
    rest = (pattern & _REST).to(tl.float32) * _UNIT
    upper = tl.load(at) + rest * tl.load(at + 2048)
    return tl.where(half & 1 != 0, -upper, upper)


@triton.jit
def _mixed(state):
    """The finalizer of SplitMix64."""
    state = (state ^ (state >> 30)) * _FIRST
    state = (state ^ (state >> 27)) * _SECOND
    return state ^ (state >> 31)

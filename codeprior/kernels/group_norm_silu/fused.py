"""GroupNorm and SiLU as Triton kernels: a feature is read twice and written once, in its own layout.

A tile is a number of places by a number of channels. It is wide along the places where the feature is contiguous, and
along the channels where it is channels_last, so that neighbours in memory are read together. Moments are float32: the
mean of each tile is subtracted before its squares are summed, and tiles are joined in a fixed order (Chan et al. 1979),
without atomics. Tested in Triton's interpreter, and compiled for compute capability 9.0; not timed on a GPU.
"""

# Triton's language is not typed: what is a tensor or a constant is known to its compiler alone
# pyright: reportArgumentType=false, reportAssignmentType=false, reportCallIssue=false, reportGeneralTypeIssues=false
# pyright: reportOperatorIssue=false, reportAttributeAccessIssue=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from codeprior.kernels._device import launching

_PROGRAMS = 1024  # into which a pass over a large feature is split, at least
_TILE = 2048  # elements


@triton.jit
def _tile(first, PLACES, C, place_stride, channel_stride, BP: tl.constexpr, BC: tl.constexpr):
    places = first + tl.arange(0, BP)
    channels = tl.program_id(2) * BC + tl.arange(0, BC)
    mask = (places < PLACES)[:, None] & (channels < C)[None, :]
    at = places.to(tl.int64)[:, None] * place_stride + channels.to(tl.int64)[None, :] * channel_stride
    return channels, mask, at


@triton.jit
def partial_moments(x_ptr, mean_ptr, squares_ptr, PLACES, C, SPAN, image_stride, place_stride, channel_stride,
                    BP: tl.constexpr, BC: tl.constexpr):  # fmt: skip
    """Mean of each channel and squares about it, summed over the places `program_id(1) · SPAN …` of one image."""
    x_ptr += tl.program_id(0).to(tl.int64) * image_stride
    start = tl.program_id(1) * SPAN
    end = tl.minimum(start + SPAN, PLACES)
    mean = tl.zeros((BC,), tl.float32)
    squares = tl.zeros((BC,), tl.float32)
    for first in range(start, end, BP):
        _, mask, at = _tile(first, end, C, place_stride, channel_stride, BP, BC)
        x = tl.load(x_ptr + at, mask=mask, other=0.0).to(tl.float32)
        count = tl.minimum(end - first, BP).to(tl.float32)
        middle = tl.sum(x, 0) / count
        off = tl.where(mask, x - middle[None, :], 0.0)
        seen = (first - start).to(tl.float32)
        difference = middle - mean
        share = count / (seen + count)
        mean += difference * share
        squares += tl.sum(off * off, 0) + difference * difference * seen * share
    channels = tl.program_id(2) * BC + tl.arange(0, BC)
    into = (tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)) * C + channels
    tl.store(mean_ptr + into, mean, mask=channels < C)
    tl.store(squares_ptr + into, squares, mask=channels < C)


@triton.jit
def join_moments(mean_ptr, squares_ptr, group_mean_ptr, group_rate_ptr, PLACES, C, SPAN, SPLITS, GROUPS, MEMBERS,
                 epsilon, BS: tl.constexpr, BM: tl.constexpr):  # fmt: skip
    """Mean and 1 / √(variance + epsilon) of a group from the parts of its channels."""
    image = tl.program_id(0) // GROUPS
    parts = tl.arange(0, BS)
    members = tl.arange(0, BM)
    mask = (parts < SPLITS)[:, None] & (members < MEMBERS)[None, :]
    at = (image * SPLITS + parts)[:, None] * C + (tl.program_id(0) % GROUPS) * MEMBERS + members[None, :]
    means = tl.load(mean_ptr + at, mask=mask, other=0.0)
    squares = tl.load(squares_ptr + at, mask=mask, other=0.0)
    counts = tl.minimum(PLACES - parts * SPAN, SPAN).to(tl.float32)[:, None]
    total = PLACES * MEMBERS
    mean = tl.sum(tl.where(mask, means * (counts / total), 0.0))
    difference = tl.where(mask, means - mean, 0.0)
    variance = tl.sum(tl.where(mask, squares / total + difference * difference * (counts / total), 0.0))
    tl.store(group_mean_ptr + tl.program_id(0), mean)
    tl.store(group_rate_ptr + tl.program_id(0), 1.0 / tl.sqrt(variance + epsilon))


@triton.jit
def _normalised(x_ptr, mean_ptr, rate_ptr, weight_ptr, bias_ptr, number, channels, mask, at, C, GROUPS):
    group = number * GROUPS + channels // (C // GROUPS)
    fits = channels < C
    mean = tl.load(mean_ptr + group, mask=fits, other=0.0)
    rate = tl.load(rate_ptr + group, mask=fits, other=0.0)
    weight = tl.load(weight_ptr + channels, mask=fits, other=0.0).to(tl.float32)
    bias = tl.load(bias_ptr + channels, mask=fits, other=0.0).to(tl.float32)
    x = tl.load(x_ptr + at, mask=mask, other=0.0).to(tl.float32)
    hat = (x - mean[None, :]) * rate[None, :]
    return hat, hat * weight[None, :] + bias[None, :], weight, rate, group


@triton.jit
def apply(x_ptr, mean_ptr, rate_ptr, weight_ptr, bias_ptr, out_ptr, PLACES, C, GROUPS, image_stride, place_stride,
          channel_stride, BP: tl.constexpr, BC: tl.constexpr):  # fmt: skip
    """silu(weight · (x − mean) · rate + bias) of a tile; places are on the grid's first axis, the longest."""
    number = tl.program_id(1)
    image = number.to(tl.int64) * image_stride
    channels, mask, at = _tile(tl.program_id(0) * BP, PLACES, C, place_stride, channel_stride, BP, BC)
    _, y, _, _, _ = _normalised(
        x_ptr + image, mean_ptr, rate_ptr, weight_ptr, bias_ptr, number, channels, mask, at, C, GROUPS
    )
    tl.store(out_ptr + image + at, (y * tl.sigmoid(y)).to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def _slope(y, slope_ptr, at, mask):
    sigmoid = tl.sigmoid(y)
    return tl.load(slope_ptr + at, mask=mask, other=0.0).to(tl.float32) * sigmoid * (1.0 + y * (1.0 - sigmoid))


@triton.jit
def partial_slopes(x_ptr, mean_ptr, rate_ptr, weight_ptr, bias_ptr, slope_ptr, sum_ptr, product_ptr, PLACES, C, GROUPS,
                   SPAN, image_stride, place_stride, channel_stride, BP: tl.constexpr, BC: tl.constexpr):  # fmt: skip
    """Sums of dz and of dz · x̂ of each channel over a span of places, for z the input of SiLU."""
    image = tl.program_id(0).to(tl.int64) * image_stride
    start = tl.program_id(1) * SPAN
    end = tl.minimum(start + SPAN, PLACES)
    total = tl.zeros((BC,), tl.float32)
    product = tl.zeros((BC,), tl.float32)
    for first in range(start, end, BP):
        channels, mask, at = _tile(first, end, C, place_stride, channel_stride, BP, BC)
        hat, y, _, _, _ = _normalised(
            x_ptr + image, mean_ptr, rate_ptr, weight_ptr, bias_ptr, tl.program_id(0), channels, mask, at, C, GROUPS
        )
        slope = _slope(y, slope_ptr + image, at, mask)
        total += tl.sum(slope, 0)
        product += tl.sum(slope * hat, 0)
    channels = tl.program_id(2) * BC + tl.arange(0, BC)
    into = (tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)) * C + channels
    tl.store(sum_ptr + into, total, mask=channels < C)
    tl.store(product_ptr + into, product, mask=channels < C)


@triton.jit
def to_feature(x_ptr, mean_ptr, rate_ptr, weight_ptr, bias_ptr, slope_ptr, first_ptr, second_ptr, out_ptr, PLACES, C,
               GROUPS, image_stride, place_stride, channel_stride, BP: tl.constexpr, BC: tl.constexpr):  # fmt: skip
    """Dx = rate · (weight · dz − mean of weight · dz − x̂ · mean of weight · dz · x̂), means over the group."""
    number = tl.program_id(1)
    image = number.to(tl.int64) * image_stride
    channels, mask, at = _tile(tl.program_id(0) * BP, PLACES, C, place_stride, channel_stride, BP, BC)
    hat, y, weight, rate, group = _normalised(
        x_ptr + image, mean_ptr, rate_ptr, weight_ptr, bias_ptr, number, channels, mask, at, C, GROUPS
    )
    slope = _slope(y, slope_ptr + image, at, mask) * weight[None, :]
    first = tl.load(first_ptr + group, mask=channels < C, other=0.0)
    second = tl.load(second_ptr + group, mask=channels < C, other=0.0)
    out = rate[None, :] * (slope - first[None, :] - hat * second[None, :])
    tl.store(out_ptr + image + at, out.to(out_ptr.dtype.element_ty), mask=mask)


@torch.library.custom_op("codeprior::group_norm_silu_triton", mutates_args=())
def forward(
    feature: Tensor, weight: Tensor, bias: Tensor, groups: int, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The activated feature, and mean and rate of every group, `(b, groups)`."""
    feature, weight, bias = _dense(feature), weight.contiguous(), bias.contiguous()
    batch, channels = feature.shape[:2]
    places, strides, tile, splits, span = _plan(feature)
    means, squares = feature.new_empty(2, batch, splits, channels, dtype=torch.float32)
    mean, rate = (feature.new_empty(batch, groups, dtype=torch.float32) for _ in range(2))
    blocks = triton.cdiv(channels, tile["BC"])
    out, members = torch.empty_like(feature), channels // groups
    with launching(feature):
        partial_moments[(batch, splits, blocks)](feature, means, squares, places, channels, span, *strides, **tile)
        join_moments[(batch * groups,)](
            means, squares, mean, rate, places, channels, span, splits, groups, members, epsilon,
            BS=triton.next_power_of_2(splits), BM=triton.next_power_of_2(members),
        )  # fmt: skip
        apply[grid_of(batch, places, channels, tile)](
            feature, mean, rate, weight, bias, out, places, channels, groups, *strides, **tile
        )
    return out, mean, rate


@forward.register_fake
def _(feature: Tensor, weight: Tensor, bias: Tensor, groups: int, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    mean, rate = (feature.new_empty((len(feature), groups), dtype=torch.float32) for _ in range(2))
    return torch.empty_like(_dense(feature)), mean, rate


@torch.library.custom_op("codeprior::group_norm_silu_triton_backward", mutates_args=())
def backward(
    feature: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, rate: Tensor, slope: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of feature, weight and bias."""
    feature, weight, bias = _dense(feature), weight.contiguous(), bias.contiguous()
    last = feature.is_contiguous(memory_format=torch.channels_last) and not feature.is_contiguous()
    slope = slope.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    (batch, channels), groups = feature.shape[:2], mean.shape[1]
    places, strides, tile, splits, span = _plan(feature)
    sums, products = feature.new_empty(2, batch, splits, channels, dtype=torch.float32)
    blocks, read = triton.cdiv(channels, tile["BC"]), (feature, mean, rate, weight, bias, slope)
    with launching(feature):
        partial_slopes[(batch, splits, blocks)](
            *read, sums, products, places, channels, groups, span, *strides, **tile
        )  # fmt: skip
    sums, products = sums.sum(1), products.sum(1)
    first, second = (
        (part * weight.float()).unflatten(1, (groups, -1)).sum(2) / (places * (channels // groups))
        for part in (sums, products)
    )
    out = torch.empty_like(feature)
    with launching(feature):
        to_feature[grid_of(batch, places, channels, tile)](
            *read, first, second, out, places, channels, groups, *strides, **tile
        )  # fmt: skip
    return out, products.sum(0).to(weight.dtype), sums.sum(0).to(bias.dtype)


@backward.register_fake
def _(
    feature: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, rate: Tensor, slope: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(_dense(feature)), torch.empty_like(weight), torch.empty_like(bias)


def grid_of(batch: int, places: int, channels: int, tile: dict[str, int]) -> tuple[int, int, int]:
    """The grid of a pass with one program for each tile; only the first axis may have more than 65,535."""
    return triton.cdiv(places, tile["BP"]), batch, triton.cdiv(channels, tile["BC"])


def _remember(ctx, inputs: tuple, output: tuple) -> None:
    _, mean, rate = output
    ctx.mark_non_differentiable(mean, rate)
    ctx.save_for_backward(*inputs[:3], mean, rate)


def _gradients(ctx, slope: Tensor, _mean, _rate):
    return *backward(*ctx.saved_tensors, slope), None, None


forward.register_autograd(_gradients, setup_context=_remember)


def _dense(feature: Tensor) -> Tensor:
    return feature if feature.is_contiguous(memory_format=torch.channels_last) else feature.contiguous()


def _plan(feature: Tensor) -> tuple[int, tuple[int, int, int], dict[str, int], int, int]:
    """Count of places; strides of image, place and channel; the tile; count of spans, and of places in a span."""
    batch, channels, height, width = feature.shape
    places, strides = height * width, (feature.stride(0), feature.stride(3), feature.stride(1))
    wide = min(128, triton.next_power_of_2(channels)) if feature.stride(1) == 1 else 1
    tile = {"BP": _TILE // wide, "BC": wide}
    programs = max(1, _PROGRAMS // (batch * triton.cdiv(channels, wide)))
    span = triton.cdiv(triton.cdiv(places, programs), tile["BP"]) * tile["BP"]
    return places, strides, tile, triton.cdiv(places, span), span

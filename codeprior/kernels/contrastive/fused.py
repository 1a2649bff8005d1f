"""The symmetric cross-entropy as Triton kernels: neither pass writes a logit to memory.

A program owns a block of rows and walks over the columns; the same kernels with both sides exchanged do the columns.
Sums are taken in a fixed order, without atomics. Of the sizes only the width D decides what is compiled: where it is a
multiple of 16, several numbers of a row are read at once. Tested in Triton's interpreter only.
"""

# Triton's language is not typed: what is a tensor or a constant is known to its compiler alone
# pyright: reportArgumentType=false, reportAssignmentType=false, reportCallIssue=false, reportGeneralTypeIssues=false
# pyright: reportOperatorIssue=false, reportAttributeAccessIssue=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from codeprior.kernels._device import launching
from codeprior.kernels.contrastive._gradient import gradients, remember


@triton.jit
def _product(left_ptr, right_ptr, rows, columns, M, N, D, DP: tl.constexpr, BD: tl.constexpr, BN: tl.constexpr,
             BM: tl.constexpr):  # fmt: skip
    total = tl.zeros((BN, BM), tl.float32)
    for start in range(0, DP, BD):
        dims = start + tl.arange(0, BD)
        fits = dims < D
        left = tl.load(left_ptr + rows.to(tl.int64)[:, None] * D + dims[None, :],
                       mask=(rows < M)[:, None] & fits[None, :], other=0.0)  # fmt: skip
        right = tl.load(right_ptr + columns.to(tl.int64)[None, :] * D + dims[:, None],
                        mask=(columns < N)[None, :] & fits[:, None], other=0.0)  # fmt: skip
        total += tl.dot(left, right, input_precision="tf32x3")
    return total


@triton.jit(do_not_specialize=["START", "M", "N"])
def row_sums(left_ptr, right_ptr, scale_ptr, sums_ptr, diagonal_ptr, START, M, N, D,
             DP: tl.constexpr, BD: tl.constexpr, BN: tl.constexpr, BM: tl.constexpr):  # fmt: skip
    """Log-sum-exp of each of M rows of scale · left rightᵀ, and its entry at column START + row."""
    scale = tl.load(scale_ptr).to(tl.float32)
    rows = tl.program_id(0) * BN + tl.arange(0, BN)
    largest = tl.full((BN,), -3.0e38, tl.float32)
    total = tl.zeros((BN,), tl.float32)
    diagonal = tl.zeros((BN,), tl.float32)
    for first in range(0, N, BM):
        columns = first + tl.arange(0, BM)
        logits = scale * _product(left_ptr, right_ptr, rows, columns, M, N, D, DP, BD, BN, BM)
        diagonal += tl.sum(tl.where(START + rows[:, None] == columns[None, :], logits, 0.0), 1)
        logits = tl.where((columns < N)[None, :], logits, -3.0e38)
        higher = tl.maximum(largest, tl.max(logits, 1))
        total = total * tl.exp(largest - higher) + tl.sum(tl.exp(logits - higher[:, None]), 1)
        largest = higher
    tl.store(sums_ptr + rows, largest + tl.log(total), mask=rows < M)
    tl.store(diagonal_ptr + rows, diagonal, mask=rows < M)


@triton.jit(do_not_specialize=["START", "M", "N"])
def row_gradients(left_ptr, right_ptr, scale_ptr, sums_ptr, other_sums_ptr, out_ptr, slope_ptr, START, M, N, D,
                  DP: tl.constexpr, BD: tl.constexpr, BN: tl.constexpr, BM: tl.constexpr):  # fmt: skip
    """Gradient of the left side for the sum over rows, and each row's share in the gradient of the scale."""
    scale = tl.load(scale_ptr).to(tl.float32)
    rows = tl.program_id(0) * BN + tl.arange(0, BN)
    fits = rows < M
    sums = tl.load(sums_ptr + rows, mask=fits, other=0.0)
    dims = tl.arange(0, DP)
    total = tl.zeros((BN, DP), tl.float32)
    share = tl.zeros((BN,), tl.float32)
    for first in range(0, N, BM):
        columns = first + tl.arange(0, BM)
        similarity = _product(left_ptr, right_ptr, rows, columns, M, N, D, DP, BD, BN, BM)
        others = tl.load(other_sums_ptr + columns, mask=columns < N, other=0.0)
        logits = scale * similarity
        slope = 0.5 * (tl.exp(logits - sums[:, None]) + tl.exp(logits - others[None, :]))
        slope = tl.where(START + rows[:, None] == columns[None, :], slope - 1.0, slope)
        slope = tl.where(fits[:, None] & (columns < N)[None, :], slope, 0.0)
        right = tl.load(right_ptr + columns.to(tl.int64)[:, None] * D + dims[None, :],
                        mask=(columns < N)[:, None] & (dims < D)[None, :], other=0.0)  # fmt: skip
        total += tl.dot(slope, right.to(tl.float32), input_precision="tf32x3")
        share += tl.sum(slope * similarity, 1)
    out = out_ptr + rows.to(tl.int64)[:, None] * D + dims[None, :]
    tl.store(out, total * scale, mask=fits[:, None] & (dims < D)[None, :])
    tl.store(slope_ptr + rows, share, mask=fits)


@torch.library.custom_op("codeprior::symmetric_cross_entropy_triton", mutates_args=())
def forward(first: Tensor, second: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The loss, and the log-sum-exp of each row and column."""
    rows, diagonal = sums(first, second, scale, 0)
    columns, _ = sums(second, first, scale, 0)
    return ((rows + columns) / 2 - diagonal).mean(), rows, columns


@torch.library.custom_op("codeprior::symmetric_cross_entropy_triton_backward", mutates_args=())
def backward(
    first: Tensor, second: Tensor, scale: Tensor, rows: Tensor, columns: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of both sides and of the scale, float32."""
    to_first, share = slopes(first, second, scale, rows, columns, 0)
    to_second, _ = slopes(second, first, scale, columns, rows, 0)
    return to_first / len(first), to_second / len(first), share / len(first)


@forward.register_fake
def _(first: Tensor, second: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    rows, columns = (first.new_empty(first.shape[:1], dtype=torch.float32) for _ in range(2))
    return rows.new_empty(()), rows, columns


@backward.register_fake
def _(first: Tensor, second: Tensor, scale: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return rows.new_empty(first.shape), rows.new_empty(first.shape), rows.new_empty(())


forward.register_autograd(gradients(backward), setup_context=remember)


def sums(left: Tensor, right: Tensor, scale: Tensor, start: int) -> tuple[Tensor, Tensor]:
    """As `blocked.sums`, float32."""
    left, right = left.contiguous(), right.contiguous()
    rows, diagonal = (torch.empty(len(left), device=left.device) for _ in range(2))
    grid, sizes = _sizes(left)
    with launching(left):
        row_sums[grid](left, right, scale, rows, diagonal, start, len(left), *right.shape, **sizes)
    return rows, diagonal


def slopes(
    left: Tensor, right: Tensor, scale: Tensor, mine: Tensor, others: Tensor, start: int
) -> tuple[Tensor, Tensor]:
    """As `blocked.slopes`, float32."""
    left, right = left.contiguous(), right.contiguous()
    out, share = torch.empty(left.shape, device=left.device), torch.empty_like(mine)
    grid, sizes = _sizes(left)
    with launching(left):
        row_gradients[grid](
            left, right, scale, mine, others, out, share, start, len(left), *right.shape, **sizes
        )  # fmt: skip
    return out, share.sum()


def _sizes(first: Tensor) -> tuple[tuple[int], dict[str, int]]:
    sizes = sizes_of(first.shape[1])
    return (triton.cdiv(len(first), sizes["BN"]),), sizes


def sizes_of(width: int) -> dict[str, int]:
    """The constants of both kernels for this width, chosen to spill the fewest registers at compute capability 9.0."""
    padded = max(16, triton.next_power_of_2(width))
    block = 64 if padded <= 256 else 32
    return {"DP": padded, "BD": min(64, padded), "BN": block, "BM": block, "num_warps": 8 if padded > 64 else 4}

"""The symmetric cross-entropy as Triton kernels: neither pass writes a logit to memory.

A program owns a block of rows and walks over the columns; the same kernels with both sides exchanged do the columns.
Sums are taken in a fixed order, without atomics. Tested in Triton's interpreter only.
"""

# Triton's language is not typed: what is a tensor or a constant is known to its compiler alone
# pyright: reportArgumentType=false, reportAssignmentType=false, reportCallIssue=false, reportGeneralTypeIssues=false
# pyright: reportOperatorIssue=false, reportAttributeAccessIssue=false

import os

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import triton_op, wrap_triton

from codeprior.kernels.contrastive._gradient import gradients, remember


@triton.jit
def _product(left_ptr, right_ptr, rows, columns, N, D, DP: tl.constexpr, BD: tl.constexpr, BN: tl.constexpr,
             BM: tl.constexpr):  # fmt: skip
    total = tl.zeros((BN, BM), tl.float32)
    for start in range(0, DP, BD):
        dims = start + tl.arange(0, BD)
        fits = dims < D
        left = tl.load(left_ptr + rows.to(tl.int64)[:, None] * D + dims[None, :],
                       mask=(rows < N)[:, None] & fits[None, :], other=0.0)  # fmt: skip
        right = tl.load(right_ptr + columns.to(tl.int64)[None, :] * D + dims[:, None],
                        mask=(columns < N)[None, :] & fits[:, None], other=0.0)  # fmt: skip
        total += tl.dot(left, right, input_precision="tf32x3")
    return total


@triton.jit
def row_sums(left_ptr, right_ptr, scale_ptr, sums_ptr, diagonal_ptr, N, D,
             DP: tl.constexpr, BD: tl.constexpr, BN: tl.constexpr, BM: tl.constexpr):  # fmt: skip
    """Log-sum-exp of each row of scale · left rightᵀ, and its diagonal."""
    scale = tl.load(scale_ptr).to(tl.float32)
    rows = tl.program_id(0) * BN + tl.arange(0, BN)
    largest = tl.full((BN,), -3.0e38, tl.float32)
    total = tl.zeros((BN,), tl.float32)
    diagonal = tl.zeros((BN,), tl.float32)
    for first in range(0, N, BM):
        columns = first + tl.arange(0, BM)
        logits = scale * _product(left_ptr, right_ptr, rows, columns, N, D, DP, BD, BN, BM)
        diagonal += tl.sum(tl.where(rows[:, None] == columns[None, :], logits, 0.0), 1)
        logits = tl.where((columns < N)[None, :], logits, -3.0e38)
        higher = tl.maximum(largest, tl.max(logits, 1))
        total = total * tl.exp(largest - higher) + tl.sum(tl.exp(logits - higher[:, None]), 1)
        largest = higher
    tl.store(sums_ptr + rows, largest + tl.log(total), mask=rows < N)
    tl.store(diagonal_ptr + rows, diagonal, mask=rows < N)


@triton.jit
def row_gradients(left_ptr, right_ptr, scale_ptr, sums_ptr, other_sums_ptr, out_ptr, slope_ptr, N, D,
                  DP: tl.constexpr, BD: tl.constexpr, BN: tl.constexpr, BM: tl.constexpr):  # fmt: skip
    """Gradient of the left side, and each row's share in the gradient of the scale."""
    scale = tl.load(scale_ptr).to(tl.float32)
    rows = tl.program_id(0) * BN + tl.arange(0, BN)
    fits = rows < N
    sums = tl.load(sums_ptr + rows, mask=fits, other=0.0)
    dims = tl.arange(0, DP)
    total = tl.zeros((BN, DP), tl.float32)
    share = tl.zeros((BN,), tl.float32)
    for first in range(0, N, BM):
        columns = first + tl.arange(0, BM)
        similarity = _product(left_ptr, right_ptr, rows, columns, N, D, DP, BD, BN, BM)
        others = tl.load(other_sums_ptr + columns, mask=columns < N, other=0.0)
        logits = scale * similarity
        slope = 0.5 * (tl.exp(logits - sums[:, None]) + tl.exp(logits - others[None, :]))
        slope = tl.where(rows[:, None] == columns[None, :], slope - 1.0, slope) / N
        slope = tl.where(fits[:, None] & (columns < N)[None, :], slope, 0.0)
        right = tl.load(right_ptr + columns.to(tl.int64)[:, None] * D + dims[None, :],
                        mask=(columns < N)[:, None] & (dims < D)[None, :], other=0.0)  # fmt: skip
        total += tl.dot(slope, right.to(tl.float32), input_precision="tf32x3")
        share += tl.sum(slope * similarity, 1)
    out = out_ptr + rows.to(tl.int64)[:, None] * D + dims[None, :]
    tl.store(out, total * scale, mask=fits[:, None] & (dims < D)[None, :])
    tl.store(slope_ptr + rows, share, mask=fits)


@triton_op("codeprior::symmetric_cross_entropy_triton", mutates_args=())
def forward(first: Tensor, second: Tensor, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The loss, and the log-sum-exp of each row and column."""
    first, second = first.contiguous(), second.contiguous()
    rows, columns, diagonal = (torch.empty(len(first), device=first.device) for _ in range(3))
    grid, sizes = _sizes(first)
    _launcher(row_sums)[grid](first, second, scale, rows, diagonal, *first.shape, **sizes)
    _launcher(row_sums)[grid](second, first, scale, columns, diagonal, *first.shape, **sizes)
    return ((rows + columns) / 2 - diagonal).mean(), rows, columns


@triton_op("codeprior::symmetric_cross_entropy_triton_backward", mutates_args=())
def backward(
    first: Tensor, second: Tensor, scale: Tensor, rows: Tensor, columns: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of both sides and of the scale, float32."""
    first, second = first.contiguous(), second.contiguous()
    to_first = torch.empty(first.shape, device=first.device)
    to_second, share = torch.empty_like(to_first), torch.empty_like(rows)
    grid, sizes = _sizes(first)
    _launcher(row_gradients)[grid](second, first, scale, columns, rows, to_second, share, *first.shape, **sizes)
    _launcher(row_gradients)[grid](first, second, scale, rows, columns, to_first, share, *first.shape, **sizes)
    return to_first, to_second, share.sum()


forward.register_autograd(gradients(backward), setup_context=remember)


def _sizes(first: Tensor) -> tuple[tuple[int], dict[str, int]]:
    padded = max(16, triton.next_power_of_2(first.shape[1]))
    block = 64 if padded <= 256 else 32
    return (triton.cdiv(len(first), block),), {"DP": padded, "BD": min(64, padded), "BN": block, "BM": block}


def _launcher(kernel):
    return kernel if os.environ.get("TRITON_INTERPRET") == "1" else wrap_triton(kernel)

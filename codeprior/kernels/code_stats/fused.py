"""Counts and sums by code as Triton kernels: rows sorted by code, and each code's rows added in parts of equal length.

A program adds one part chunk by chunk in the order of the rows; a second kernel adds the parts of each code in their
order. The sum is then the same at every run, and it takes no longer where one code has all the rows.
"""

# Triton's language is not typed: what is a tensor or a constant is known to its compiler alone
# pyright: reportArgumentType=false, reportAssignmentType=false, reportCallIssue=false, reportGeneralTypeIssues=false
# pyright: reportOperatorIssue=false, reportAttributeAccessIssue=false

import torch
import triton
import triton.language as tl
from torch import Tensor

from codeprior.kernels._device import launching

_PART = 512  # rows that a program adds one after the other


@triton.jit(do_not_specialize=["D", "row_stride", "dim_stride"])
def part_sums(
    rows_ptr, order_ptr, code_ptr, ends_ptr, first_ptr, sums_ptr, D, row_stride, dim_stride, size,
    PART: tl.constexpr, CHUNK: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """Sum of the rows of part `program_id(0)`, dims `program_id(1) * BD …`; nothing where there is no such part."""
    part = tl.program_id(0)
    code = tl.load(code_ptr + part)
    if code >= size:
        return
    dims = tl.program_id(1) * BD + tl.arange(0, BD)
    end = tl.load(ends_ptr + code)
    before = tl.load(ends_ptr + code - 1, mask=code > 0, other=0)
    start = before + (part - tl.load(first_ptr + code - 1, mask=code > 0, other=0)) * PART
    end = tl.minimum(end, start + PART)
    total = tl.zeros((BD,), tl.float32)
    for first in range(start, end, CHUNK):
        place = first + tl.arange(0, CHUNK)
        row = tl.load(order_ptr + place, mask=place < end, other=0)
        mask = (place < end)[:, None] & (dims < D)[None, :]
        at = row.to(tl.int64)[:, None] * row_stride + dims.to(tl.int64)[None, :] * dim_stride
        total += tl.sum(tl.load(rows_ptr + at, mask=mask, other=0.0).to(tl.float32), 0)
    tl.store(sums_ptr + part.to(tl.int64) * D + dims, total, mask=dims < D)


@triton.jit(do_not_specialize=["D"])
def joined_sums(parts_ptr, first_ptr, sums_ptr, D, BD: tl.constexpr):
    """The parts of code `program_id(0)` added in their order."""
    code = tl.program_id(0)
    dims = tl.program_id(1) * BD + tl.arange(0, BD)
    total = tl.zeros((BD,), tl.float32)
    for part in range(tl.load(first_ptr + code - 1, mask=code > 0, other=0), tl.load(first_ptr + code)):
        total += tl.load(parts_ptr + part * D.to(tl.int64) + dims, mask=dims < D, other=0.0)
    tl.store(sums_ptr + code.to(tl.int64) * D + dims, total, mask=dims < D)


@torch.library.custom_op("codeprior::code_stats_triton", mutates_args=())
def code_stats_triton(rows: Tensor, indices: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Counts `(size,)` and sums `(size, d)` of rows `(n, d)` by code, float32."""
    count, width = rows.shape
    counts = torch.zeros(size, dtype=torch.int64, device=rows.device)
    counts = counts.scatter_add(0, indices, torch.ones_like(indices))
    # sorting int32 takes half as many passes as sorting int64
    order = torch.sort(indices.int(), stable=True).indices
    parts = ((counts + _PART - 1) // _PART).cumsum(0)
    most = min(count, size) + count // _PART
    code = torch.searchsorted(parts, torch.arange(most, device=rows.device), right=True)
    sums = torch.empty(size, width, dtype=torch.float32, device=rows.device)
    if count == 0 or width == 0:
        return counts, sums.zero_()
    partial = torch.empty(most, width, dtype=torch.float32, device=rows.device)
    block = min(128, triton.next_power_of_2(width))
    with launching(rows):
        part_sums[(most, triton.cdiv(width, block))](
            rows, order, code, counts.cumsum(0), parts, partial, width, rows.stride(0), rows.stride(1), size,
            PART=_PART, CHUNK=32, BD=block,
        )  # fmt: skip
        joined_sums[(size, triton.cdiv(width, block))](partial, parts, sums, width, BD=block)
    return counts, sums


@code_stats_triton.register_fake
def _(rows: Tensor, indices: Tensor, size: int) -> tuple[Tensor, Tensor]:
    return rows.new_empty((size,), dtype=torch.int64), rows.new_empty((size, rows.shape[1]), dtype=torch.float32)

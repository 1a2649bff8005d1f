"""Counts and sums by code as a Triton kernel: rows sorted by code, a program for each code and slice of its width.

Each program adds its segment chunk by chunk in the order of the rows, so that the sum is the same at every run.
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


@triton.jit
def segment_sums(
    rows_ptr, order_ptr, ends_ptr, sums_ptr, D, row_stride, dim_stride, CHUNK: tl.constexpr, BD: tl.constexpr
):  # fmt: skip
    """Sums of the rows that chose code `program_id(0)`, dims `program_id(1) * BD …`."""
    code = tl.program_id(0)
    dims = tl.program_id(1) * BD + tl.arange(0, BD)
    end = tl.load(ends_ptr + code)
    start = tl.load(ends_ptr + code - 1, mask=code > 0, other=0)
    total = tl.zeros((BD,), tl.float32)
    for first in range(start, end, CHUNK):
        place = first + tl.arange(0, CHUNK)
        row = tl.load(order_ptr + place, mask=place < end, other=0)
        mask = (place < end)[:, None] & (dims < D)[None, :]
        values = tl.load(rows_ptr + row[:, None] * row_stride + dims[None, :] * dim_stride, mask=mask, other=0.0)
        total += tl.sum(values.to(tl.float32), 0)
    tl.store(sums_ptr + code.to(tl.int64) * D + dims, total, mask=dims < D)


@triton_op("codeprior::code_stats_triton", mutates_args=())
def code_stats_triton(rows: Tensor, indices: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Counts `(size,)` and sums `(size, d)` of rows `(n, d)` by code, float32."""
    counts = torch.zeros(size, dtype=torch.int64, device=rows.device)
    counts = counts.scatter_add(0, indices, torch.ones_like(indices))
    order = torch.argsort(indices, stable=True)
    width = rows.shape[1]
    sums = torch.empty(size, width, dtype=torch.float32, device=rows.device)
    block = min(128, triton.next_power_of_2(width))
    kernel = segment_sums if os.environ.get("TRITON_INTERPRET") == "1" else wrap_triton(segment_sums)
    kernel[(size, triton.cdiv(width, block))](
        rows, order, counts.cumsum(0), sums, width, rows.stride(0), rows.stride(1), CHUNK=32, BD=block
    )
    return counts, sums

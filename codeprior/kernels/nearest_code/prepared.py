"""What the screen needs of a table, made by two small Triton kernels at every call, without a cache.

A cache would need to know when the table changes, and PyTorch's version counter does not count what a replayed CUDA
graph, or a write through `.data`, does to it.
"""

# Triton's language is not typed: what is a tensor or a constant is known to its compiler alone
# pyright: reportArgumentType=false, reportAssignmentType=false, reportCallIssue=false, reportGeneralTypeIssues=false
# pyright: reportOperatorIssue=false, reportAttributeAccessIssue=false, reportIndexIssue=false

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from codeprior.kernels.nearest_code.certified import MISSING, scale_of

_PARTS = 64  # programs of a table at most, each of which leaves a number for the others
_SAMPLE = 64  # codes whose mean is the centre
_WHOLE = 256  # the padded count of codes is a multiple of every tile's


class Prepared(NamedTuple):
    """A table, or several with one more axis at the front, as the screen reads it."""

    codes: Tensor
    """float16, centred and scaled, zeros beyond the last code and the last dim: `(padded codes, padded dims)`."""
    half: Tensor
    """|c|²/2 of the scaled codes, float32; `MISSING` where there is no code, or one that is not finite."""
    centre: Tensor
    """`(d,)`, float32."""
    constants: Tensor
    """`(5, parts)`: of each program's codes the largest magnitude before scaling, norm, norm of the rounding, |c|²/2,
    and whether one is finite."""


def prepare(codebook: Tensor, *, width: int, zeroed: tuple[Tensor, ...] = ()) -> Prepared:
    """Gives the table for the screen, without communication between host and device.

    Args:
        codebook: `(k, d)`, or `(m, k, d)`; contiguous.
        width: Padded count of dims, a power of two.
        zeroed: Up to two tensors of int64 and int32 that are set to zero by the same kernels.
    """
    tables = codebook if codebook.ndim == 3 else codebook[None]
    stages, size, dims = tables.shape
    padded, device = triton.cdiv(size, _WHOLE) * _WHOLE, codebook.device
    codes = torch.empty(stages, padded, width, dtype=torch.float16, device=device)
    half = torch.empty(stages, padded, device=device)
    rows = max(1, min(32, 4096 // width))
    parts = min(_PARTS, triton.next_power_of_2(triton.cdiv(size, rows)))
    centre, constants = torch.empty(stages, dims, device=device), torch.empty(stages, 5, parts, device=device)
    longs, words = zeroed or (codes, codes)
    sizes = {"D": dims, "DP": width, "BC": rows, "SAMPLE": _SAMPLE, "PARTS": parts, "num_warps": 4}
    table_range[(parts, stages)](tables, centre, constants, size, **sizes)
    cleared = (longs.numel(), words.numel()) if zeroed else (0, 0)
    sizes.pop("SAMPLE")
    table_codes[(parts, stages)](
        tables, centre, constants, codes, half, longs, words, size, padded, *cleared, **sizes, enable_fp_fusion=False
    )
    made = Prepared(codes, half, centre, constants)
    return made if codebook.ndim == 3 else Prepared(*(part[0] for part in made))


@triton.jit
def _finite(codes):
    return tl.max(codes.to(tl.int32, bitcast=True) & 0x7FFFFFFF, 1) < 0x7F800000


@triton.jit(do_not_specialize=["K"])
def table_range(
    codes_ptr, centre_ptr, constants_ptr, K, D: tl.constexpr, DP: tl.constexpr, BC: tl.constexpr, SAMPLE: tl.constexpr,
    PARTS: tl.constexpr,
):  # fmt: skip
    """A point among the codes, the same in every program, and this program's largest magnitude about it."""
    part, stage = tl.program_id(0), tl.program_id(1).to(tl.int64)
    codes_ptr += stage * K * D
    dims = tl.arange(0, DP)
    # any point will do: which it is matters only to how tight the bound is
    total = tl.zeros((DP,), tl.float32)
    step = tl.cdiv(K, SAMPLE)
    for first in range(0, SAMPLE, BC):
        place = (first + tl.arange(0, BC)) * step
        mask = ((place < K) & (first + tl.arange(0, BC) < SAMPLE))[:, None] & (dims < D)[None, :]
        codes = tl.load(codes_ptr + place.to(tl.int64)[:, None] * D + dims[None, :], mask=mask, other=0.0)
        total += tl.sum(codes.to(tl.float32), 0)
    centre = total / tl.minimum(tl.cdiv(K, step), SAMPLE)
    centre = tl.where(tl.abs(centre) < float("inf"), centre, 0.0)
    tl.store(centre_ptr + stage * D + dims, centre, mask=dims < tl.where(part == 0, D, 0))
    largest = tl.zeros((BC,), tl.float32)
    for first in range(part * BC, K, PARTS * BC):
        place = first + tl.arange(0, BC)
        mask = (place < K)[:, None] & (dims < D)[None, :]
        codes = tl.load(codes_ptr + place.to(tl.int64)[:, None] * D + dims[None, :], mask=mask, other=0.0)
        codes = codes.to(tl.float32)
        away = tl.max(tl.where(mask, tl.abs(codes - centre[None, :]), 0.0), 1)
        largest = tl.maximum(largest, tl.where(_finite(codes), away, 0.0))
    tl.store(constants_ptr + stage * 5 * PARTS + part, tl.max(largest, 0))


@triton.jit(do_not_specialize=["K", "KP", "longs", "words"])
def table_codes(
    codes_ptr, centre_ptr, constants_ptr, chat_ptr, half_ptr, longs_ptr, words_ptr, K, KP, longs, words,
    D: tl.constexpr, DP: tl.constexpr, BC: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """This program's share of the scaled table, and of what bounds it."""
    part, stage = tl.program_id(0), tl.program_id(1).to(tl.int64)
    dims, others = tl.arange(0, DP), tl.arange(0, PARTS)
    codes_ptr += stage * K * D
    constants_ptr += stage * 5 * PARTS
    bits = tl.max(tl.load(constants_ptr + others).to(tl.int32, bitcast=True), 0) & 0x7F800000
    scale = scale_of(bits).to(tl.int32, bitcast=True)
    # the reciprocal of a power of two, exactly; above 2¹²⁶ a smaller one would not be a normal number
    inverse = tl.where(scale > 253 << 23, 2.0**-126, ((254 << 23) - scale).to(tl.float32, bitcast=True))
    more = tl.where(scale > 253 << 23, 0.5, 1.0)
    centre = tl.load(centre_ptr + stage * D + dims, mask=dims < D, other=0.0)
    longest = tl.zeros((BC,), tl.float32)
    off = tl.zeros((BC,), tl.float32)
    tallest = tl.zeros((BC,), tl.float32)
    usable = tl.zeros((BC,), tl.float32)
    for first in range(part * BC, KP, PARTS * BC):
        place = first + tl.arange(0, BC)
        mask = (place < K)[:, None] & (dims < D)[None, :]
        codes = tl.load(codes_ptr + place.to(tl.int64)[:, None] * D + dims[None, :], mask=mask, other=0.0)
        codes = codes.to(tl.float32)
        fit = (place < K) & _finite(codes)
        centred = tl.where(mask & fit[:, None], (codes - centre[None, :]) * inverse * more, 0.0)
        low = centred.to(tl.float16)
        lost = centred - low.to(tl.float32)
        half = tl.sum(centred * centred, 1) / 2
        norm = tl.sqrt(2 * half)
        longest = tl.maximum(longest, tl.sqrt(tl.sum(low.to(tl.float32) * low.to(tl.float32), 1)))
        # including the rounding of the codes to float32 when the centre was subtracted
        off = tl.maximum(off, tl.sqrt(tl.sum(lost * lost, 1)) + 2.0**-24 * norm)
        # what is not finite stays so, and then no row is certain
        tallest = tl.where(tallest < float("inf"), tl.where(half < tallest, tallest, half), tallest)
        usable = tl.maximum(usable, fit.to(tl.float32))
        tl.store(chat_ptr + (stage * KP + place)[:, None] * DP + dims[None, :], low, mask=(place < KP)[:, None])
        tl.store(half_ptr + stage * KP + place, tl.where(fit, half, MISSING), mask=place < KP)
    tl.store(constants_ptr + PARTS + part, tl.max(longest, 0))
    tl.store(constants_ptr + 2 * PARTS + part, tl.max(off, 0))
    tl.store(constants_ptr + 3 * PARTS + part, tl.max(tl.where(tallest == tallest, tallest, float("inf")), 0))
    tl.store(constants_ptr + 4 * PARTS + part, tl.max(usable, 0))
    if stage == 0:
        for first in range(part * 256, longs, PARTS * 256):
            at = first + tl.arange(0, 256)
            tl.store(longs_ptr + at, tl.zeros((256,), tl.int64), mask=at < longs)
        for first in range(part * 256, words, PARTS * 256):
            at = first + tl.arange(0, 256)
            tl.store(words_ptr + at, tl.zeros((256,), tl.int32), mask=at < words)

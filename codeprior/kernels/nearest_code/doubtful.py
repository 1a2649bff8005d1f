"""The Triton kernel that settles the rows which `certified_lookup` could not: in float64, by a grid of fixed size.

Rows of the first list have a few codes each: many rows are taken at a time, and one code of each in a round. Rows of
the second list have parts of the table to search, and are taken one at a time, many codes in one step. Where a list was
full, the rows that are on none are found by their index, −1, and the whole table is searched.
"""

# Triton's language is not typed: what is a tensor or a constant is known to its compiler alone
# pyright: reportArgumentType=false, reportAssignmentType=false, reportCallIssue=false, reportGeneralTypeIssues=false
# pyright: reportOperatorIssue=false, reportAttributeAccessIssue=false, reportIndexIssue=false

import triton
import triton.language as tl

from codeprior.kernels.nearest_code.certified import (
    EVERY,
    RECORD,
    first_of,
    member_of,
    positions,
    write_out,
)  # fmt: skip

NO_CODE = tl.constexpr(2147483647)


@triton.jit
def _squares_tree(squares, BN: tl.constexpr, WIDTH: tl.constexpr):
    # sums neighbours, as reference.squared_distance does: the order of a sum decides between equal distances
    if WIDTH == 1:
        return tl.reshape(squares, (BN,))
    else:
        return _squares_tree(tl.sum(tl.reshape(squares, (BN, WIDTH // 2, 2)), 2), BN, WIDTH // 2)


@triton.jit
def _exact(rows_ptr, at, stride, codes_ptr, code, active, D: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr):
    """Squared distance of each row to a code of its own, float64."""
    lane = tl.arange(0, BD)
    total = tl.zeros((BN,), tl.float64)
    for start in tl.static_range(0, D, BD):
        dims = start + lane
        mask = active[:, None] & (dims < D)[None, :]
        x = tl.load(rows_ptr + at[:, None] + dims.to(tl.int64)[None, :] * stride, mask=mask, other=0.0)
        c = tl.load(codes_ptr + code.to(tl.int64)[:, None] * D + dims[None, :], mask=mask, other=0.0)
        difference = x.to(tl.float64) - c.to(tl.float64)
        total += _squares_tree(difference * difference, BN, BD)
    return tl.where(total == total, total, float("inf"))


@triton.jit
def _better(distance, index, new_distance, new_index, active):
    better = active & ((new_distance < distance) | ((new_distance == distance) & (new_index < index)))
    return tl.where(better, new_distance, distance), tl.where(better, new_index, index)


@triton.jit
def _searched(
    rows_ptr, at, stride, codes_ptr, start, count, outer, K, distance, index,
    D: tl.constexpr, BC: tl.constexpr, BD: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """The nearest of `count` codes: neighbours where `outer` is 1, else groups of GROUP codes, `outer` apart."""
    lanes = tl.arange(0, BC)
    for first in range(0, count, BC):
        number = first + lanes
        spread = (number // GROUP) * outer + member_of(number % GROUP, GROUP)
        code = start + tl.where(outer == 1, number, spread)
        taken = (number < count) & (code < K)
        every = tl.zeros((BC,), tl.int64) + at
        found = _exact(rows_ptr, every, stride, codes_ptr, tl.where(taken, code, 0), taken, D, BC, BD)
        found = tl.where(taken, found, float("inf"))
        least = tl.min(found, 0)
        which = tl.min(tl.where(taken & (found == least), code, NO_CODE), 0)
        distance, index = _better(distance, index, least, which, least < float("inf"))
    return distance, index


@triton.jit
def _finished(
    rows_ptr, at, stride_d, codes_ptr, index, indices_ptr, out_ptr, distances_ptr, counts_ptr, n, taken, S,
    out_b, out_s, out_d, D: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, WRITE: tl.constexpr,
):  # fmt: skip
    # no code at a finite distance
    undefined = index == NO_CODE
    write_out(
        rows_ptr, at, stride_d, codes_ptr, tl.where(undefined, 0, index), indices_ptr, out_ptr, distances_ptr,
        counts_ptr, n, taken, undefined, S, out_b, out_s, out_d, D, BN, BD, WRITE,
    )  # fmt: skip


@triton.jit
def _alone(
    n, entries, list_at, rows_ptr, codes_ptr, indices_ptr, out_ptr, distances_ptr, counts_ptr,
    S, stride_b, stride_s, stride_d, out_b, out_s, out_d, K, chunk, tiles,
    D: tl.constexpr, BC: tl.constexpr, BK: tl.constexpr, BD: tl.constexpr, GROUP: tl.constexpr, SPLIT: tl.constexpr,
    WRITE: tl.constexpr,
):  # fmt: skip
    """Settles one row with all the lanes of a program."""
    distance = tl.min(tl.full((BC,), float("inf"), tl.float64), 0)
    index = tl.min(tl.full((BC,), NO_CODE, tl.int32), 0)
    at = positions(n, S, stride_b, stride_s)
    # a row that is not finite is as far from every code
    lane = tl.arange(0, BD)
    wrong = tl.zeros((BD,), tl.int32)
    for first in range(0, D, BD):
        x = tl.load(rows_ptr + at + (first + lane).to(tl.int64) * stride_d, mask=first + lane < D, other=0.0)
        wrong |= (~(tl.abs(x.to(tl.float32)) < float("inf"))).to(tl.int32)
    turns = tl.where(entries == EVERY, 1, entries)
    for turn in range(tl.where(tl.max(wrong, 0) > 0, 0, turns)):
        entry = tl.load(list_at + 2 + turn)
        unit = -1 - entry
        if SPLIT:
            start, count, outer = unit * chunk, chunk, tl.where(entry < 0, 1, BK)
        else:
            start, count, outer = first_of(unit, GROUP), tiles * GROUP, BK
        start, count = tl.where(entry < 0, start, entry), tl.where(entry < 0, count, GROUP)
        start, count = tl.where(entries == EVERY, 0, start), tl.where(entries == EVERY, K, count)
        outer = tl.where(entries == EVERY, 1, outer)
        distance, index = _searched(
            rows_ptr, at, stride_d, codes_ptr, start, count, outer, K, distance, index, D, BC, BD, GROUP
        )
    # a tile of one row, as `_finished` takes tiles
    one = tl.arange(0, 1)
    _finished(
        rows_ptr, at + one, stride_d, codes_ptr, index + one, indices_ptr, out_ptr, distances_ptr, counts_ptr, n + one,
        one == 0, S, out_b, out_s, out_d, D, 1, BD, WRITE,
    )  # fmt: skip


@triton.jit(
    do_not_specialize=[
        "N", "S", "stride_b", "stride_s", "stride_d", "out_b", "out_s", "out_d", "K", "chunk", "tiles", "few", "crowds",
    ]
)  # fmt: skip
def settle_rows(
    heads_ptr, list_ptr, rows_ptr, codes_ptr, indices_ptr, out_ptr, distances_ptr, counts_ptr,
    N, S, stride_b, stride_s, stride_d, out_b, out_s, out_d, K, chunk, tiles, few, crowds,
    D: tl.constexpr, DE: tl.constexpr, BN: tl.constexpr, BC: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr,
    SPLIT: tl.constexpr, WRITE: tl.constexpr, UNIT: tl.constexpr,
):  # fmt: skip
    """Settles what is on the lists; a program takes every `num_programs`-th tile of rows, then every such row."""
    BD: tl.constexpr = 32 if DE > 32 else DE
    if UNIT == 1:
        stride_d, out_d = 1, 1
    if UNIT == 2:
        stride_s, out_s = 1, 1
    program, programs = tl.program_id(0), tl.num_programs(0)
    on_first, on_second = tl.load(heads_ptr), tl.load(heads_ptr + 1)
    of_first = tl.minimum(on_first, few)
    for tile in range(program, tl.cdiv(of_first, BN), programs):
        number = tile * BN + tl.arange(0, BN)
        taken = number < of_first
        record = list_ptr + tl.where(taken, number, 0).to(tl.int64) * RECORD
        n = tl.load(record, mask=taken, other=0)
        entries = tl.load(record + 1, mask=taken, other=0)
        at = positions(n, S, stride_b, stride_s)
        distance = tl.full((BN,), float("inf"), tl.float64)
        index = tl.full((BN,), NO_CODE, tl.int32)
        for turn in range(tl.max(entries, 0)):
            active = taken & (turn < entries)
            start = tl.load(record + 2 + turn, mask=active, other=0)
            for member in range(GROUP):
                code = start + member_of(member, GROUP)
                fits = active & (code < K)
                found = _exact(rows_ptr, at, stride_d, codes_ptr, tl.where(fits, code, 0), fits, D, BN, BD)
                distance, index = _better(distance, index, found, code, fits & (found < float("inf")))
        _finished(
            rows_ptr, at, stride_d, codes_ptr, index, indices_ptr, out_ptr, distances_ptr, counts_ptr, n, taken, S,
            out_b, out_s, out_d, D, BN, BD, WRITE,
        )  # fmt: skip
    listed = tl.minimum(on_second, crowds)
    # where a list was full all rows are looked at; one loop for both cases, because `_alone` is long
    for number in range(program, listed + tl.where((on_first > few) | (on_second > crowds), N, 0), programs):
        on_list = number < listed
        record = list_ptr + tl.where(on_list, few + number, 0).to(tl.int64) * RECORD
        n = tl.where(on_list, tl.load(record), number - listed)
        entries = tl.where(on_list, tl.load(record + 1), EVERY)
        if on_list | (tl.load(indices_ptr + tl.where(on_list, 0, n)) == -1):
            _alone(
                n, entries, record, rows_ptr, codes_ptr, indices_ptr, out_ptr, distances_ptr, counts_ptr,
                S, stride_b, stride_s, stride_d, out_b, out_s, out_d, K, chunk, tiles,
                D, BC, BK, BD, GROUP, SPLIT, WRITE,
            )  # fmt: skip

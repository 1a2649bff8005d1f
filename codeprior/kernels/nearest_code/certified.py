"""The Triton kernel of the lookup: a float16 matrix product screens, a bound certifies; `doubtful` settles the rest.

Rows and codes are centred and scaled by powers of two, so that float16 carries 11 bits of each. Scores v = |c|²/2 − x·c
are never stored: each row keeps `SLOTS = BK / GROUP` slots, and a slot keeps its smallest and second smallest score,
the number of the tile written into their low bits. A row with one score within twice the error bound of the smallest is
certain, and is finished here without float64. Every other row is put on one of two lists for `doubtful.settle_rows`: on
the first with the few codes that can be its nearest, on the second with the parts of the table that can hold it.

Bound: Cauchy–Schwarz on the measured rounding of rows and codes, plus GAMMA for the accumulation of the tensor cores,
which align and truncate what they add (Fasi, Higham, Mikaitis, Pranesh, PeerJ CS 2021), for blocks of 8 products or
more. It has been tested in Triton's interpreter only; `benchmarks/accumulation.py` puts it to the test on a device.
"""

# Triton's language is not typed: what is a tensor or a constant is known to its compiler alone
# pyright: reportArgumentType=false, reportAssignmentType=false, reportCallIssue=false, reportGeneralTypeIssues=false
# pyright: reportOperatorIssue=false, reportAttributeAccessIssue=false, reportIndexIssue=false

import triton
import triton.language as tl

# stands for |c|²/2 where there is no code: above every score of a code, and finite for every ratio of scales that is
# allowed, so that packing a tile's number into it does not make a NaN
MISSING = tl.constexpr(2.0**100)
LEAST_RATIO, LARGEST_EXPONENT = tl.constexpr(2.0**-88), tl.constexpr(10)
# int32 words of a record: the row, how many entries follow, and these
RECORD, ENTRIES = tl.constexpr(8), tl.constexpr(6)
EVERY = tl.constexpr(-1)  # in place of the count of entries: the whole table
_INFINITE = tl.constexpr(0x7F800000)


@triton.jit
def positions(n, S, stride_b, stride_s):
    """Where the vectors n = b S + s begin, in 64 bits: more than 2³¹ elements are read."""
    return (n // S).to(tl.int64) * stride_b + (n % S).to(tl.int64) * stride_s


@triton.jit
def exchange(
    rows_ptr, at, stride, codes_ptr, code, out_ptr, to, out_stride, taken, undefined,
    D: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, WRITE: tl.constexpr,
):  # fmt: skip
    """Writes each row's code, or subtracts it from the row where WRITE is 2; gives |x − c|² in float32."""
    lane = tl.arange(0, BD)
    squares = tl.zeros((BN, BD), tl.float32)
    for start in tl.static_range(0, D, BD):
        dims = start + lane
        mask = taken[:, None] & (dims < D)[None, :]
        place = rows_ptr + at[:, None] + dims.to(tl.int64)[None, :] * stride
        x = tl.load(place, mask=mask, other=0.0).to(tl.float32)
        row = tl.load(codes_ptr + code.to(tl.int64)[:, None] * D + dims[None, :], mask=mask, other=0.0)
        off = x - row.to(tl.float32)
        squares += off * off
        if WRITE == 1:
            row = tl.where(undefined[:, None], float("nan"), row.to(tl.float32))
            out = out_ptr + to[:, None] + dims.to(tl.int64)[None, :] * out_stride
            tl.store(out, row.to(out_ptr.dtype.element_ty), mask=mask)
        else:
            tl.store(place, off, mask=mask)
    return tl.where(undefined, float("nan"), tl.sum(squares, 1))


@triton.jit
def write_out(
    rows_ptr, at, stride_d, codes_ptr, code, indices_ptr, out_ptr, distances_ptr, counts_ptr, n, taken, undefined, S,
    out_b, out_s, out_d, D: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, WRITE: tl.constexpr,
):  # fmt: skip
    """Writes what a call asks for of the rows that are settled: the index, and by WRITE code, distance and count."""
    tl.store(indices_ptr + n, code.to(tl.int64), mask=taken)
    if WRITE > 0:
        to = positions(n, S, out_b, out_s)
        distance = exchange(
            rows_ptr, at, stride_d, codes_ptr, code, out_ptr, to, out_d, taken, undefined, D, BN, BD, WRITE
        )
        if WRITE == 1:
            tl.store(distances_ptr + n, distance, mask=taken)
            tl.atomic_add(counts_ptr + code, tl.full((BN,), 1, tl.int64), mask=taken, sem="relaxed")


@triton.jit
def _group_minimum(scores, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr):
    # members of a group lie in one thread of the tensor cores' layout: pairs, and every eighth column
    if GROUP == 1:
        return scores
    elif GROUP == 2:
        return tl.min(tl.reshape(scores, (BN, BK // 2, 2)), 2)
    else:
        split = tl.reshape(scores, (BN, BK // (4 * GROUP), GROUP // 2, 4, 2))
        return tl.reshape(tl.min(tl.min(split, 4), 2), (BN, BK // GROUP))


@triton.jit
def first_of(slot, GROUP: tl.constexpr):
    """The first code of a slot's group within its tile."""
    if GROUP <= 2:
        return slot * GROUP
    else:
        return (slot // 4) * (4 * GROUP) + (slot % 4) * 2


@triton.jit
def member_of(number, GROUP: tl.constexpr):
    """How far a member of a group lies behind its first code."""
    return (number // 2) * 8 + number % 2 if GROUP > 2 else number


@triton.jit
def _screened(
    rows_ptr, chat_ptr, half_ptr, centre_ptr, constants_ptr, n, inside, at, stride_d, first, tiles,
    D: tl.constexpr, DP: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr, BITS: tl.constexpr,
    PARTS: tl.constexpr,
):  # fmt: skip
    """Smallest and second smallest score of each slot, twice the error bound, and the rows for which it does not hold.

    Rows that are not finite are among these; the kernel that settles recognises them.
    """
    SLOTS: tl.constexpr = BK // GROUP
    MASK: tl.constexpr = (1 << BITS) - 1
    UP: tl.constexpr = 1.0 + 2.0**-10  # more than the rounding of the norms, approximate roots included
    GAMMA: tl.constexpr = (DP + DP // 8 + 4) * 2.0**-23
    dims = tl.arange(0, DP)
    mask = inside[:, None] & (dims < D)[None, :] if D < DP else inside[:, None]
    x = tl.load(rows_ptr + at[:, None] + dims.to(tl.int64)[None, :] * stride_d, mask=mask, other=0.0).to(tl.float32)
    x -= tl.load(centre_ptr + dims, mask=dims < D, other=0.0)[None, :]
    # read as whole numbers, NaN and infinity are the largest magnitudes
    largest = tl.max(x.to(tl.int32, bitcast=True) & 0x7FFFFFFF, 1)
    part = tl.arange(0, PARTS)
    # the power of two at or below the largest magnitude of a code; each program of the table has left its own
    table_bits = tl.max(tl.load(constants_ptr + part).to(tl.int32, bitcast=True), 0) & _INFINITE
    table_scale = scale_of(table_bits)
    longest = tl.max(tl.load(constants_ptr + PARTS + part), 0) * UP
    table_off = tl.max(tl.load(constants_ptr + 2 * PARTS + part), 0) * UP
    tallest = tl.max(tl.load(constants_ptr + 3 * PARTS + part), 0) * UP
    usable = tl.max(tl.load(constants_ptr + 4 * PARTS + part), 0)
    undefined = (tl.zeros((BN,), tl.float32) + usable) == 0.0
    # a row far smaller than the codes is not scaled up to them: its rounding is lost in theirs anyway
    bits = tl.maximum(largest & _INFINITE, table_scale.to(tl.int32, bitcast=True) - (LARGEST_EXPONENT << 23))
    unfit = undefined | (largest >= _INFINITE) | (bits < 1 << 23)
    bits = tl.minimum(tl.where(unfit, 127 << 23, bits), 253 << 23)
    inverse = ((254 << 23) - bits).to(tl.float32, bitcast=True)
    ratio = table_scale * inverse
    unfit |= ~(ratio >= LEAST_RATIO) | ~(tl.zeros((BN,), tl.float32) + tallest < 1e20)
    ratio = tl.where(unfit, 1.0, ratio)
    x = tl.where(unfit[:, None], 0.0, x * -inverse[:, None])
    low = x.to(tl.float16)
    rounding = x - low.to(tl.float32)
    norm = tl.sqrt(tl.sum(low.to(tl.float32) * low.to(tl.float32), 1)) * UP
    off = tl.sqrt(tl.sum(rounding * rounding, 1)) * UP
    bound = off * longest + norm * table_off + off * table_off + GAMMA * (norm * longest + tallest * ratio)
    bound += 2.0**-23 * (norm + off) * longest + 2.0**-40

    best = tl.full((BN, SLOTS), float("inf"), tl.float32)
    second = tl.full((BN, SLOTS), float("inf"), tl.float32)
    codes = tl.arange(0, BK)
    table_ptr = chat_ptr + first.to(tl.int64) * DP
    half_ptr += first
    inner = codes[None, :] * DP + dims[:, None]
    for tile in range(tiles):
        product = tl.dot(low, tl.load(table_ptr + inner))
        scores = tl.fma(tl.load(half_ptr + codes)[None, :], ratio[:, None], product)
        scores = _group_minimum(scores, BN, BK, GROUP)
        packed = ((scores.to(tl.int32, bitcast=True) & ~MASK) | tile).to(tl.float32, bitcast=True)
        second = tl.minimum(second, tl.maximum(packed, best))
        best = tl.minimum(best, packed)
        table_ptr += BK * DP
        half_ptr += BK
    return best, second, 2 * bound, undefined, unfit


@triton.jit
def scale_of(bits):
    """A power of two from its exponent's bits; 1 where there is none."""
    return tl.where((bits > 0) & (bits < _INFINITE), bits, 127 << 23).to(tl.float32, bitcast=True)


@triton.jit
def _reach(least, margin, BITS: tl.constexpr):
    LOOSE: tl.constexpr = 2.0 ** (BITS - 22)  # what the packed tile number may change, relative
    reach = least + margin
    return reach + LOOSE * tl.maximum(tl.abs(least), tl.abs(reach))


@triton.jit
def _nearest_member(
    rows_ptr, at, stride_d, codes_ptr, start, taken, K, D: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr,
    GROUP: tl.constexpr,
):  # fmt: skip
    """The nearest member of a group by its float32 distance, and whether that is certain."""
    lane = tl.arange(0, BD)
    least = tl.full((BN,), float("inf"), tl.float32)
    after = tl.full((BN,), float("inf"), tl.float32)
    found = start
    for member in range(GROUP):
        code = start + member_of(member, GROUP)
        fits = taken & (code < K)
        squares = tl.zeros((BN, BD), tl.float32)
        for first in tl.static_range(0, D, BD):
            dims = first + lane
            mask = fits[:, None] & (dims < D)[None, :]
            x = tl.load(rows_ptr + at[:, None] + dims.to(tl.int64)[None, :] * stride_d, mask=mask, other=0.0)
            c = tl.load(codes_ptr + code.to(tl.int64)[:, None] * D + dims[None, :], mask=mask, other=0.0)
            off = x.to(tl.float32) - c.to(tl.float32)
            squares += off * off
        distance = tl.sum(squares, 1)
        # a code that is not finite is never chosen before another
        distance = tl.where(fits & (distance == distance), distance, float("inf"))
        after = tl.minimum(after, tl.maximum(distance, least))
        found = tl.where(distance < least, code, found)
        least = tl.minimum(least, distance)
    # D squares, each of a rounded difference, added in any order; not true of two infinities, nor of two zeros
    return found, after - least > (D + 8) * 2.0**-23 * (after + least)


@triton.jit
def listed(heads_ptr, which: tl.constexpr, wanted, capacity, skip, BN: tl.constexpr):
    """Reserves places on a list for the wanted rows: the number of each record, −1 where the list is full."""
    among = tl.cumsum(wanted.to(tl.int32), 0)
    count = tl.sum(wanted.to(tl.int32))
    place = tl.atomic_add(heads_ptr + which, count, sem="relaxed") + among - 1
    return tl.where(wanted & (place < capacity), skip + place, -1)


@triton.jit(
    do_not_specialize=[
        "N", "S", "stride_b", "stride_s", "stride_d", "out_b", "out_s", "out_d", "K", "chunk", "parts", "few", "crowds",
        "zero",
    ]
)  # fmt: skip
def certified_lookup(
    rows_ptr, codes_ptr, chat_ptr, half_ptr, centre_ptr, constants_ptr,
    indices_ptr, out_ptr, distances_ptr, counts_ptr, partial_ptr, partial_code_ptr, tickets_ptr, heads_ptr, list_ptr,
    N, S, stride_b, stride_s, stride_d, out_b, out_s, out_d, K, chunk, parts, few, crowds, zero,
    D: tl.constexpr, DP: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr, BITS: tl.constexpr,
    PARTS: tl.constexpr, SPLIT: tl.constexpr, EXACT: tl.constexpr, WRITE: tl.constexpr, UNIT: tl.constexpr,
    WIDE: tl.constexpr,
):  # fmt: skip
    """Rows n = b S + s of a (b, s, d) tensor with any strides; the grid is (cdiv(N, BN), parts of the table)."""
    SLOTS: tl.constexpr = BK // GROUP
    MASK: tl.constexpr = (1 << BITS) - 1
    BD: tl.constexpr = 32 if DP > 32 else DP
    if UNIT == 1:
        stride_d, out_d = 1, 1
    if UNIT == 2:
        stride_s, out_s = 1, 1
    if WIDE:
        # this holds in every call with WIDE; knowing it, the compiler reads several elements at a time
        N, stride_b, out_b = N // 16 * 16 if UNIT == 2 else N, stride_b // 16 * 16, out_b // 16 * 16
        if UNIT == 1:
            stride_s, out_s = stride_s // 16 * 16, out_s // 16 * 16
        else:
            S, stride_d, out_d = S // 16 * 16, stride_d // 16 * 16, out_d // 16 * 16
    program, part = tl.program_id(0), tl.program_id(1)
    n = program * BN + tl.arange(0, BN)
    inside = n < N
    # written as a product of BK, so that the compiler knows its alignment
    first = part * (chunk // BK) * BK
    tiles = tl.cdiv(tl.minimum(first + chunk, K) - first, BK)
    best, second, margin, undefined, unfit = _screened(
        rows_ptr, chat_ptr, half_ptr, centre_ptr, constants_ptr, n, inside,
        positions(n, S, stride_b, stride_s), stride_d, first, tiles,
        D, DP, BN, BK, GROUP, BITS, PARTS,
    )  # fmt: skip
    slots = tl.arange(0, SLOTS)
    least = tl.min(best, 1)
    reach = _reach(least, margin, BITS)
    slot = tl.min(tl.where(best == least[:, None], slots[None, :], SLOTS), 1)
    code = first + (least.to(tl.int32, bitcast=True) & MASK) * BK + first_of(slot, GROUP)
    alone = tl.sum(((best <= reach[:, None]).to(tl.int32) + (second <= reach[:, None]).to(tl.int32)), 1) == 1
    finish = True
    if SPLIT:
        # (code, or −1 − code where this part holds others within reach)
        at_part = part.to(tl.int64) * N + n
        tl.store(partial_ptr + at_part, least, mask=inside)
        tl.store(partial_code_ptr + at_part, tl.where(alone, code, -1 - code), mask=inside)
        tl.debug_barrier()
        finish = tl.atomic_add(tickets_ptr + program, 1) == parts - 1
        if finish:
            for other in range(parts):
                there = other * N.to(tl.int64) + n
                found = tl.load(partial_ptr + there, mask=inside, other=float("inf"), cache_modifier=".cg")
                least = tl.minimum(least, found)
            reach = _reach(least, margin, BITS)
            near = tl.zeros((BN,), tl.int32)
            for other in range(parts):
                there = other * N.to(tl.int64) + n
                found = tl.load(partial_ptr + there, mask=inside, other=float("inf"), cache_modifier=".cg")
                number = tl.load(partial_code_ptr + there, mask=inside, other=0, cache_modifier=".cg")
                near += tl.where(found <= reach, tl.where(number < 0, 2, 1), 0)
                code = tl.where(found == least, tl.where(number < 0, -1 - number, number), code)
            alone = near == 1
    if finish:
        # addresses are computed again, with a zero that the compiler does not know, so that no (BN, DP) tile of them is
        # kept across the loop
        again = n + zero
        at = positions(again, S, stride_b, stride_s)
        sure = alone
        if GROUP > 1:
            code, clear = _nearest_member(rows_ptr, at, stride_d, codes_ptr, code, inside & ~unfit, K, D, BN, BD, GROUP)
            sure = sure & clear
        if not EXACT:
            sure = tl.full((BN,), True, tl.int1)
        sure = inside & (undefined | (sure & ~unfit))
        code = tl.where(undefined, 0, code)
        if tl.sum((inside & ~sure).to(tl.int32)) > 0:
            _put_down(
                best, second, least, reach, inside & ~sure, unfit, again, first, tiles, heads_ptr, list_ptr,
                indices_ptr, partial_ptr, partial_code_ptr, N, parts, few, crowds, BN, BK, GROUP, BITS, SPLIT,
            )  # fmt: skip
        write_out(
            rows_ptr, at, stride_d, codes_ptr, code, indices_ptr, out_ptr, distances_ptr, counts_ptr, again, sure,
            undefined, S, out_b, out_s, out_d, D, BN, BD, WRITE,
        )  # fmt: skip


@triton.jit
def _put_down(
    best, second, least, reach, doubtful, unfit, n, first, tiles, heads_ptr, list_ptr, indices_ptr, partial_ptr,
    partial_code_ptr, N, parts, few, crowds, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr,
    BITS: tl.constexpr, SPLIT: tl.constexpr,
):  # fmt: skip
    """Puts doubtful rows on a list, with the groups of codes (from 0) and the slots or parts (below 0) within reach.

    A slot gives its best, then its second. Where the second is within reach a third may be too: the slot is listed.
    """
    SLOTS: tl.constexpr = BK // GROUP
    MASK: tl.constexpr = (1 << BITS) - 1
    slots = tl.arange(0, SLOTS)
    every = unfit
    crowded = unfit
    count = tl.zeros((BN,), tl.int32)
    if SPLIT:
        for other in range(parts):
            there = other * N.to(tl.int64) + n
            found = tl.load(partial_ptr + there, mask=doubtful, other=float("inf"), cache_modifier=".cg")
            number = tl.load(partial_code_ptr + there, mask=doubtful, other=0, cache_modifier=".cg")
            near = found <= reach
            count += near.to(tl.int32)
            crowded |= near & (number < 0)
    else:
        within = (best <= reach[:, None]).to(tl.int32)
        both = within * (second <= reach[:, None]).to(tl.int32)
        count = tl.sum(within + both, 1)
        crowded |= (tl.max(both, 1) > 0) & (tiles > 2)
    every |= count > ENTRIES
    crowded |= every
    record = listed(heads_ptr, 0, doubtful & ~crowded, few, 0, BN)
    record = tl.where(doubtful & crowded, listed(heads_ptr, 1, doubtful & crowded, crowds, few, BN), record)
    # without room on the list the index is −1, and the settling kernel looks for such rows
    tl.store(indices_ptr + n, tl.full((BN,), -1, tl.int64), mask=doubtful & (record < 0))
    fits = doubtful & (record >= 0)
    at = list_ptr + tl.where(fits, record, 0).to(tl.int64) * RECORD
    tl.store(at, n, mask=fits)
    tl.store(at + 1, tl.where(every, EVERY, count), mask=fits)
    active = fits & ~every
    if SPLIT:
        entry = tl.zeros((BN,), tl.int32)
        for other in range(parts):
            there = other * N.to(tl.int64) + n
            found = tl.load(partial_ptr + there, mask=active, other=float("inf"), cache_modifier=".cg")
            number = tl.load(partial_code_ptr + there, mask=active, other=0, cache_modifier=".cg")
            near = active & (found <= reach)
            tl.store(at + 2 + entry, tl.where(number < 0, -1 - other, number), mask=near)
            entry += near.to(tl.int32)
    else:
        active = active & (least <= reach)
        left = tl.sum(active.to(tl.int32))
        turn = 0
        while left > 0:
            slot = tl.min(tl.where(best == least[:, None], slots[None, :], SLOTS), 1)
            hit = (slots[None, :] == slot[:, None]) & active[:, None]
            whole = (tl.max((hit & (second == float("inf"))).to(tl.int32), 1) > 0) & (tiles > 2)
            code = first + (least.to(tl.int32, bitcast=True) & MASK) * BK + first_of(slot, GROUP)
            tl.store(at + 2 + turn, tl.where(whole, -1 - slot, code), mask=active)
            best = tl.where(hit, second, best)
            second = tl.where(hit, float("inf"), second)
            least = tl.min(best, 1)
            active = active & (least <= reach)
            left = tl.sum(active.to(tl.int32))
            turn += 1

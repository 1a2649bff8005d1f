"""The Triton kernel of the lookup: one float16 matrix product screens, a bound certifies, float64 settles; one launch.

Rows and codes are centred and scaled by powers of two, so that float16 carries 11 bits of each. Scores v = |c|²/2 − x·c
are never stored: each row keeps `SLOTS = BK / GROUP` slots, and a slot keeps its smallest and second smallest score,
the number of the tile written into their low bits. Then every code whose score is within twice the error bound of the
smallest is scored again in float64; where a slot may hide a third such code, the whole table is.

Bound: Cauchy–Schwarz on the measured rounding of rows and codes, plus GAMMA for the accumulation of the tensor cores,
which align and truncate (Fasi, Higham, Mikaitis, Pranesh, PeerJ CS 2021). It has been tested in Triton's interpreter
only; `benchmarks/accumulation.py` puts it to the test on a device.
"""

# Triton's language is not typed: what is a tensor or a constant is known to its compiler alone
# pyright: reportArgumentType=false, reportAssignmentType=false, reportCallIssue=false, reportGeneralTypeIssues=false
# pyright: reportOperatorIssue=false, reportAttributeAccessIssue=false

import triton
import triton.language as tl

# finite, so that packing a tile's number into it does not make a NaN
BIG = tl.constexpr(3.0e38)
NO_CODE = tl.constexpr(2147483647)


@triton.jit
def _squares_tree(squares, BN: tl.constexpr, WIDTH: tl.constexpr):
    # sums neighbours, as reference.squared_distance does: the order of a sum decides between equal distances
    if WIDTH == 1:
        return tl.reshape(squares, (BN,))
    else:
        return _squares_tree(tl.sum(tl.reshape(squares, (BN, WIDTH // 2, 2)), 2), BN, WIDTH // 2)


@triton.jit
def _exact(rows_ptr, at, stride, codes_ptr, code, active, D, BN: tl.constexpr, DP: tl.constexpr, BD: tl.constexpr):
    """Squared distance of each row to a code of its own, float64."""
    lane = tl.arange(0, BD)
    total = tl.zeros((BN,), tl.float64)
    for start in range(0, DP, BD):
        mask = active[:, None] & (start + lane < D)[None, :]
        x = tl.load(rows_ptr + at[:, None] + (start + lane)[None, :] * stride, mask=mask, other=0.0).to(tl.float64)
        c = tl.load(codes_ptr + code.to(tl.int64)[:, None] * D + (start + lane)[None, :], mask=mask, other=0.0)
        difference = x - c.to(tl.float64)
        total += _squares_tree(difference * difference, BN, BD)
    return tl.where(total == total, total, float("inf"))


@triton.jit
def _group_minimum(scores, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr):
    # members of a group lie in one thread of the tensor cores' layout: pairs, and every eighth column
    if GROUP == 1:
        return scores
    else:
        split = tl.reshape(scores, (BN, BK // (4 * GROUP), GROUP // 2, 4, 2))
        return tl.reshape(tl.min(tl.min(split, 4), 2), (BN, BK // GROUP))


@triton.jit
def _tile(xh, ratio, chat_ptr, half_ptr, first, last, D, BN: tl.constexpr, BK: tl.constexpr, DP: tl.constexpr,
          MASKED: tl.constexpr):  # fmt: skip
    codes, dims = first + tl.arange(0, BK), tl.arange(0, DP)
    mask = (dims < D)[:, None]
    if MASKED:
        mask = mask & (codes < last)[None, :]
    table = tl.load(chat_ptr + codes.to(tl.int64)[None, :] * D + dims[:, None], mask=mask, other=0.0)
    half = tl.load(half_ptr + codes, mask=codes < last, other=0.0)
    scores = half[None, :] * ratio[:, None] - tl.dot(xh, table)
    if MASKED:
        scores = tl.where((codes < last)[None, :], scores, BIG)
    return scores


@triton.jit
def _keep(best, second, scores, tile, BITS: tl.constexpr):
    MASK: tl.constexpr = (1 << BITS) - 1
    packed = ((scores.to(tl.int32, bitcast=True) & ~MASK) | tile).to(tl.float32, bitcast=True)
    return tl.minimum(best, packed), tl.minimum(second, tl.maximum(packed, best))


@triton.jit
def _better(distance, index, new_distance, new_index, active):
    better = active & ((new_distance < distance) | ((new_distance == distance) & (new_index < index)))
    return tl.where(better, new_distance, distance), tl.where(better, new_index, index)


@triton.jit
def _copy_codes(codes_ptr, index, out_ptr, to, stride, inside, D, DP: tl.constexpr, BD: tl.constexpr):
    lane = tl.arange(0, BD)
    for start in tl.static_range(0, DP, BD):
        mask = inside[:, None] & (start + lane < D)[None, :]
        row = tl.load(codes_ptr + index.to(tl.int64)[:, None] * D + (start + lane)[None, :], mask=mask, other=0.0)
        tl.store(out_ptr + to[:, None] + (start + lane)[None, :] * stride, row, mask=mask)


@triton.jit
def _find(
    rows_ptr, codes_ptr, chat_ptr, half_ptr, centre_ptr, constants_ptr, told_ptr,
    n, N, S, stride_b, stride_s, stride_d, first, last, D, zero,
    DP: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr, BITS: tl.constexpr,
    EXACT: tl.constexpr, TELL: tl.constexpr,
):  # fmt: skip
    """Float64 distance and number of the nearest code in [first, last) for each row, and whether a row has a NaN."""
    SLOTS: tl.constexpr = BK // GROUP
    BD: tl.constexpr = 32 if DP > 32 else DP
    MASK: tl.constexpr = (1 << BITS) - 1
    UP: tl.constexpr = 1.0 + 2.0**-10  # more than the float32 rounding of the norms
    GAMMA: tl.constexpr = (DP + DP // 16 + 4) * 2.0**-23
    LOOSE: tl.constexpr = 2.0 ** (BITS - 22)  # what the packed tile number may change, relative
    inside = n < N
    dims = tl.arange(0, DP)
    at = (n // S).to(tl.int64) * stride_b + (n % S).to(tl.int64) * stride_s
    mask = inside[:, None] & (dims < D)[None, :]
    raw = tl.load(rows_ptr + at[:, None] + dims[None, :] * stride_d, mask=mask, other=0.0).to(tl.float32)
    # told before the rows are centred: a second copy of a wide tile does not fit the registers
    kind = tl.max(tl.where(raw == raw, (~(tl.abs(raw) < float("inf"))).to(tl.int32), 2), 1)
    undefined, missing = kind > 0, kind > 1
    x = raw - tl.load(centre_ptr + dims, mask=dims < D, other=0.0)[None, :]
    largest = tl.max(tl.abs(x), 1)
    unfit = undefined | ~(largest < float("inf"))
    scale = (largest.to(tl.int32, bitcast=True) & 0x7F800000).to(tl.float32, bitcast=True)
    scale = tl.where((scale > 0) & ~unfit, scale, 1.0)
    x = tl.where(unfit[:, None], 0.0, x) / scale[:, None]
    xh = x.to(tl.float16)
    rounding = x - xh.to(tl.float32)
    norm = tl.sqrt(tl.sum(xh.to(tl.float32) * xh.to(tl.float32), 1)) * UP
    off = tl.sqrt(tl.sum(rounding * rounding, 1)) * UP
    table_scale, longest = tl.load(constants_ptr), tl.load(constants_ptr + 1)
    table_off, tallest = tl.load(constants_ptr + 2), tl.load(constants_ptr + 3)
    ratio = table_scale / scale
    unfit = unfit | ~(tallest * ratio < 1e37) | ~(norm * longest < 1e37)
    ratio = tl.where(unfit, 1.0, ratio)
    bound = off * longest + norm * table_off + off * table_off + GAMMA * (norm * longest + tallest * ratio)
    bound += 2.0**-23 * (norm + off) * longest + DP * 2.0**-120

    best = tl.full((BN, SLOTS), float("inf"), tl.float32)
    second = tl.full((BN, SLOTS), float("inf"), tl.float32)
    whole = (last - first) // BK
    for tile in range(whole):
        scores = _tile(xh, ratio, chat_ptr, half_ptr, first + tile * BK, last, D, BN, BK, DP, False)
        best, second = _keep(best, second, _group_minimum(scores, BN, BK, GROUP), tile, BITS)
    if first + whole * BK < last:
        scores = _tile(xh, ratio, chat_ptr, half_ptr, first + whole * BK, last, D, BN, BK, DP, True)
        best, second = _keep(best, second, _group_minimum(scores, BN, BK, GROUP), whole, BITS)
    tiles = tl.cdiv(last - first, BK)

    # addresses again, through an opaque zero, so that no (BN, DP) tile of them stays alive across the loop
    again = n + zero
    at = (again // S).to(tl.int64) * stride_b + (again % S).to(tl.int64) * stride_s
    slots = tl.arange(0, SLOTS)
    least = tl.min(best, 1)
    reach = least + 2 * bound
    reach += LOOSE * tl.maximum(tl.abs(least), tl.abs(reach))
    distance = tl.full((BN,), float("inf"), tl.float64)
    index = tl.full((BN,), NO_CODE, tl.int32)
    crowded = (unfit & inside & ~undefined).to(tl.int32)
    candidates = tl.zeros((BN,), tl.int32)
    active = inside & (least <= reach) & ~unfit
    left = tl.sum(active.to(tl.int32))
    while left > 0:
        slot = tl.min(tl.where(best == least[:, None], slots[None, :], SLOTS), 1)
        start = first + (least.to(tl.int32, bitcast=True) & MASK) * BK
        for member in tl.static_range(GROUP):
            if GROUP == 1:
                code = start + slot
            else:
                code = start + (slot // 4) * (4 * GROUP) + (member // 2) * 8 + (slot % 4) * 2 + member % 2
            take = active & (code < last)
            found = _exact(rows_ptr, at, stride_d, codes_ptr, tl.where(take, code, 0), take, D, BN, DP, BD)
            distance, index = _better(distance, index, found, code, take)
        candidates += active.to(tl.int32) * GROUP
        hit = (slots[None, :] == slot[:, None]) & active[:, None]
        if EXACT:
            # a slot gives its best, then its second; after a second within reach a third may hide
            crowded = crowded | tl.max((hit & (second == float("inf")) & (tiles > 2)).to(tl.int32), 1)
            best = tl.where(hit, second, best)
            second = tl.where(hit, float("inf"), second)
            least = tl.min(best, 1)
            active = active & (least <= reach)
            left = tl.sum(active.to(tl.int32))
        else:
            left = 0
    if tl.max(crowded) > 0:
        for code in range(first, last):
            take = inside & (crowded > 0)
            every = tl.zeros((BN,), tl.int32) + code
            found = _exact(rows_ptr, at, stride_d, codes_ptr, every, take, D, BN, DP, BD)
            distance, index = _better(distance, index, found, every, take)
    # a row that is not finite is as far from every code: the lowest
    distance = tl.where(undefined, float("inf"), distance)
    index = tl.where(undefined | (index == NO_CODE), first, index)
    if TELL:
        tl.atomic_add(told_ptr, tl.sum(tl.where(inside, candidates, 0)))
        tl.atomic_add(told_ptr + 1, tl.sum(tl.where(inside, crowded, 0)))
    return distance, index, missing


@triton.jit(do_not_specialize=["zero"])
def certified_lookup(
    rows_ptr, codes_ptr, chat_ptr, half_ptr, centre_ptr, constants_ptr,
    indices_ptr, out_ptr, distances_ptr, counts_ptr, partial_ptr, partial_index_ptr, tickets_ptr, told_ptr,
    N, S, stride_b, stride_s, stride_d, out_b, out_s, out_d, K, chunk, D, zero,
    DP: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr, BITS: tl.constexpr,
    SPLIT: tl.constexpr, EXACT: tl.constexpr, WRITE: tl.constexpr, TELL: tl.constexpr,
):  # fmt: skip
    """Rows n = b S + s of a (b, s, d) tensor with any strides; the grid is (cdiv(N, BN), SPLIT)."""
    place, part = tl.program_id(0), tl.program_id(1)
    n = place * BN + tl.arange(0, BN)
    inside = n < N
    first = part * chunk
    distance, index, missing = _find(
        rows_ptr, codes_ptr, chat_ptr, half_ptr, centre_ptr, constants_ptr, told_ptr,
        n, N, S, stride_b, stride_s, stride_d, first, tl.minimum(first + chunk, K), D, zero,
        DP, BN, BK, GROUP, BITS, EXACT, TELL,
    )  # fmt: skip
    finish = True
    if SPLIT > 1:
        tl.store(partial_ptr + part * N + n, distance, mask=inside)
        tl.store(partial_index_ptr + part * N + n, index, mask=inside)
        tl.debug_barrier()
        finish = tl.atomic_add(tickets_ptr + place, 1) == SPLIT - 1
        if finish:
            for other in range(SPLIT):
                found = tl.load(partial_ptr + other * N + n, mask=inside, other=float("inf"), cache_modifier=".cg")
                code = tl.load(partial_index_ptr + other * N + n, mask=inside, other=0, cache_modifier=".cg")
                distance, index = _better(distance, index, found, code, inside)
    if finish:
        tl.store(indices_ptr + n, index.to(tl.int64), mask=inside)
        if WRITE:
            tl.store(distances_ptr + n, tl.where(missing, float("nan"), distance.to(tl.float32)), mask=inside)
            tl.atomic_add(counts_ptr + index, tl.full((BN,), 1, tl.int64), mask=inside)
            to = (n // S).to(tl.int64) * out_b + (n % S).to(tl.int64) * out_s
            BD: tl.constexpr = 32 if DP > 32 else DP
            _copy_codes(codes_ptr, index, out_ptr, to, out_d, inside, D, DP, BD)


@triton.jit(do_not_specialize=["zero"])
def residual_lookup(
    rest_ptr, codes_ptr, chat_ptr, half_ptr, centre_ptr, constants_ptr, indices_ptr,
    N, K, D, stages, zero,
    DP: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr, BITS: tl.constexpr,
    EXACT: tl.constexpr,
):  # fmt: skip
    """All stages of a residual codebook; `rest` (n, d) float32 holds the rows at first and what is left at the end."""
    BD: tl.constexpr = 32 if DP > 32 else DP
    n = tl.program_id(0) * BN + tl.arange(0, BN)
    inside = n < N
    lane = tl.arange(0, BD)
    for stage in range(stages):
        _, index, _ = _find(
            rest_ptr, codes_ptr, chat_ptr, half_ptr, centre_ptr, constants_ptr, indices_ptr,
            n, N, N, 0, D, 1, 0, K, D, zero, DP, BN, BK, GROUP, BITS, EXACT, False,
        )  # fmt: skip
        tl.store(indices_ptr + n.to(tl.int64) * stages + stage, index.to(tl.int64), mask=inside)
        at = n.to(tl.int64) * D
        tl.debug_barrier()
        for start in tl.static_range(0, DP, BD):
            mask = inside[:, None] & (start + lane < D)[None, :]
            place = rest_ptr + at[:, None] + (start + lane)[None, :]
            code = tl.load(codes_ptr + index.to(tl.int64)[:, None] * D + (start + lane)[None, :], mask=mask, other=0.0)
            tl.store(place, tl.load(place, mask=mask, other=0.0) - code.to(tl.float32), mask=mask)
        codes_ptr += K * D
        chat_ptr += K * D
        half_ptr += K
        centre_ptr += D
        constants_ptr += 4
        # the next stage reads what other threads of this program have written
        tl.debug_barrier()

"""A fused multiply-add, and two inner loops with their sums held in vector registers, as numba intrinsics.

Numba's loop vectorizer keeps the sum of each lane in memory and tests for aliasing before each short loop, which takes
most of the time for the 41-tap sums of a blur. These loops are written as vectors of eight, for which LLVM uses the
vector instructions of the machine.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_LANES = 8
_PLACE = ir.IntType(64)


def _vector(scalar, lanes):
    return ir.VectorType(scalar, lanes)


def _data(context, builder, signature, args, number):
    return context.make_array(signature.args[number])(context, builder, args[number]).data


def _load(builder, base, place, lanes=_LANES):
    scalar = base.type.pointee
    vector = builder.load(builder.bitcast(builder.gep(base, [place]), _vector(scalar, lanes).as_pointer()))
    vector.align = 4
    return vector


def _store(builder, vector, base, place):
    builder.store(vector, builder.bitcast(builder.gep(base, [place]), vector.type.as_pointer())).align = 4


def _fused(builder, vector, name):
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fmuladd.{name}")


def _broadcast(builder, scalar, lanes):
    nothing = ir.Constant(_vector(scalar.type, lanes), ir.Undefined)
    single = builder.insert_element(nothing, scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(single, nothing, ir.Constant(_vector(ir.IntType(32), lanes), [0] * lanes))


def _sum_loop(builder, first, last, count, vector, step):
    """Builds `for t in range(first, last): sums = step(t, sums)` over vectors; gives the sums."""
    entry = builder.block
    head, body, end = (builder.append_basic_block(name) for name in ("head", "body", "end"))
    builder.branch(head)
    builder.position_at_end(head)
    place = builder.phi(_PLACE)
    place.add_incoming(first, entry)
    sums = [builder.phi(vector) for _ in range(count)]
    for total in sums:
        total.add_incoming(ir.Constant(vector, [0.0] * vector.count), entry)
    builder.cbranch(builder.icmp_signed("<", place, last), body, end)
    builder.position_at_end(body)
    new = step(place, sums)
    place.add_incoming(builder.add(place, ir.Constant(_PLACE, 1)), builder.block)
    for total, value in zip(sums, new, strict=True):
        total.add_incoming(value, builder.block)
    builder.branch(head)
    builder.position_at_end(end)
    return sums


@intrinsic
def fused_product(typingctx, a, b, c):
    """Gives `a · b + c` of single-precision numbers, rounded once."""
    single = types.float32
    signature = single(single, single, single)

    def codegen(context, builder, signature, args):
        kind = ir.FloatType()
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * 3), "llvm.fma.f32")
        return builder.call(function, args)

    return signature, codegen


def weighted_rows(vectors: int):
    """Makes a function that sums rows with two sets of weights, in double precision.

    `f(image, starts, first, shift, weights, count, out, place, pitch)` computes for both sets s and each lane l below
    `4 · vectors`:
    `out[place + s · pitch + l] = Σ_t weights[t + 1 − s] · image[starts[first + t] + shift + l]`, t from 0 to `count`.
    The second set is the first one tap later, so `weights` begins and ends with a 0.
    """
    double, lanes = ir.DoubleType(), 4

    @intrinsic
    def sums(typingctx, image, starts, first, shift, weights, count, out, place, pitch):
        index = types.intp
        signature = types.void(image, starts, index, index, weights, index, out, index, index)

        def codegen(context, builder, signature, args):
            pixels, begin, taps, target = (_data(context, builder, signature, args, n) for n in (0, 1, 4, 6))
            _, _, first, shift, _, count, _, place, pitch = args
            vector = _vector(double, lanes)
            fused = _fused(builder, vector, "v4f64")

            def step(t, sums):
                row = builder.add(builder.load(builder.gep(begin, [builder.add(first, t)])), shift)
                after = builder.load(builder.gep(taps, [t]))
                here = builder.load(builder.gep(taps, [builder.add(t, ir.Constant(_PLACE, 1))]))
                factors = [_broadcast(builder, tap, lanes) for tap in (here, after)]
                new = list(sums)
                for v in range(vectors):
                    lane = _load(builder, pixels, builder.add(row, ir.Constant(_PLACE, lanes * v)), lanes)
                    lane = lane if lane.type == vector else builder.fpext(lane, vector)
                    for number, factor in enumerate(factors):
                        slot = number * vectors + v
                        new[slot] = builder.call(fused, [factor, lane, sums[slot]])
                return new

            totals = _sum_loop(builder, ir.Constant(_PLACE, 0), count, 2 * vectors, vector, step)
            for number, total in enumerate(totals):
                which, v = divmod(number, vectors)
                start = builder.add(place, pitch) if which else place
                _store(builder, total, target, builder.add(start, ir.Constant(_PLACE, lanes * v)))
            return context.get_dummy_value()

        return signature, codegen

    return sums


def window_pairs(columns: int, vectors: int):
    """Makes a function that sums a window, and the window one pixel to the right, at several columns.

    `f(image, starts, shifts, column, weights, count, out)` computes for each number n below `columns`, lane l below
    `8 · vectors` and step s of 0 and 1:
    `out[(2n + s) · 8 · vectors + l]
    = Σ_t weights[8 · vectors · t + l] · image[starts[t] + shifts[column + n] + s + l]`, t from 0 to `count`.
    """
    block = _LANES * vectors

    @intrinsic
    def sums(typingctx, image, starts, shifts, column, weights, count, out):
        signature = types.void(image, starts, shifts, types.intp, weights, types.intp, out)

        def codegen(context, builder, signature, args):
            pixels, begin, across, taps, target = (_data(context, builder, signature, args, n) for n in (0, 1, 2, 4, 6))
            column, count = args[3], args[5]
            vector = _vector(ir.FloatType(), _LANES)
            fused = _fused(builder, vector, "v8f32")
            bases = []
            for number in range(columns):
                there = builder.load(builder.gep(across, [builder.add(column, ir.Constant(_PLACE, number))]))
                bases.append(builder.gep(pixels, [there]))

            def step(t, sums):
                row = builder.load(builder.gep(begin, [t]))
                weight = builder.mul(t, ir.Constant(_PLACE, block))
                new = list(sums)
                for v in range(vectors):
                    factor = _load(builder, taps, builder.add(weight, ir.Constant(_PLACE, _LANES * v)))
                    for number in range(2 * columns):
                        base, right = bases[number // 2], number % 2
                        lane = _load(builder, base, builder.add(row, ir.Constant(_PLACE, right + _LANES * v)))
                        slot = number * vectors + v
                        new[slot] = builder.call(fused, [factor, lane, sums[slot]])
                return new

            totals = _sum_loop(builder, ir.Constant(_PLACE, 0), count, 2 * columns * vectors, vector, step)
            for slot, total in enumerate(totals):
                _store(builder, total, target, ir.Constant(_PLACE, _LANES * slot))
            return context.get_dummy_value()

        return signature, codegen

    return sums

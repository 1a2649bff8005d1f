"""Combinators that decide for each sample: one of several, with a chance, in a drawn order."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ._canvas import Canvas, routed, rows_of
from ._draws import Draws
from ._run import Mode
from .chain import part_names
from .op import Combined, Op, Part, Sizes, only_ops
from .record import Values, below, part_of


@dataclass(frozen=True, kw_only=True)
class OneOf(Combined):
    """One op of several, drawn by weight for each sample. The values of all are drawn and recorded.

    Args:
        ops: What to choose from.
        weights: Their chances, up to a factor; equal by default.
    """

    ops: tuple[Op, ...]
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        only_ops(self, self.ops)
        if not self.ops or (self.weights is not None and len(self.weights) != len(self.ops)):
            given = "none" if self.weights is None else len(self.weights)
            raise ValueError(f"OneOf: expected one op or more and a weight for each, got {len(self.ops)} and {given}.")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the parts in a record."""
        return part_names(self.ops)

    def _draw(self, draws: Draws, sizes: Sizes, origin: Sizes) -> dict[str, np.ndarray]:
        values: dict[str, np.ndarray] = {"choice": draws.choice(self.weights or [1] * len(self.ops))}
        for name, op in zip(self.names, self.ops, strict=True):
            values |= below(name, op._draw(draws.child(), sizes, origin))
        return values

    def _sizes(self, values: Values, sizes: Sizes) -> Sizes:
        result = sizes.copy()
        for number, (name, op) in enumerate(zip(self.names, self.ops, strict=True)):
            chosen = values["choice"] == number
            result[chosen] = op._sizes(part_of(values, name), sizes)[chosen]
        return result

    def _check(self, values: Values, sizes: Sizes) -> None:
        for number, (name, op) in enumerate(zip(self.names, self.ops, strict=True)):
            _check_some(op, part_of(values, name), sizes, values["choice"] == number)

    def _parts(self, values: Values) -> list[Part]:
        number = int(values["choice"])
        return [(self.ops[number], part_of(values, self.names[number]))]

    def _batch(self, canvas: Canvas, values: Values, mode: Mode) -> Canvas:
        return routed(canvas, values["choice"], [
            lambda part, samples, op=op, name=name: op._batch(part, rows_of(part_of(values, name), samples), mode)
            for name, op in zip(self.names, self.ops, strict=True)
        ])  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Maybe(Combined):
    """An op with a chance, decided for each sample.

    Args:
        op: What may be done.
        chance: How likely it is, 0 to 1.
    """

    op: Op
    chance: float

    def __post_init__(self) -> None:
        only_ops(self, (self.op,))
        if not 0 <= self.chance <= 1:
            raise ValueError(f"Maybe: expected a chance from 0 to 1, got {self.chance}.")

    def _draw(self, draws: Draws, sizes: Sizes, origin: Sizes) -> dict[str, np.ndarray]:
        coin = draws.coin(self.chance)
        return {"done": coin, **below(part_names((self.op,))[0], self.op._draw(draws.child(), sizes, origin))}

    def _own(self, values: Values) -> Values:
        return part_of(values, part_names((self.op,))[0])

    def _sizes(self, values: Values, sizes: Sizes) -> Sizes:
        return np.where(values["done"][:, None], self.op._sizes(self._own(values), sizes), sizes)

    def _check(self, values: Values, sizes: Sizes) -> None:
        _check_some(self.op, self._own(values), sizes, values["done"])

    def _parts(self, values: Values) -> list[Part]:
        return [(self.op, self._own(values))] if values["done"] else []

    def _batch(self, canvas: Canvas, values: Values, mode: Mode) -> Canvas:
        own = self._own(values)
        return routed(canvas, values["done"].astype(np.int64), [
            lambda part, samples: part,
            lambda part, samples: self.op._batch(part, rows_of(own, samples), mode),
        ])  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Shuffle(Combined):
    """Ops in an order that is drawn for each sample.

    Args:
        ops: What is done.
        before: Pairs of positions in `ops`; where the second would come before the first, the two change places.
    """

    ops: tuple[Op, ...]
    before: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        only_ops(self, self.ops)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the parts in a record."""
        return part_names(self.ops)

    def _draw(self, draws: Draws, sizes: Sizes, origin: Sizes) -> dict[str, np.ndarray]:
        order = np.argsort(np.stack([draws.unit() for _ in self.ops], 1), 1)
        for first, second in self.before:
            place = np.argsort(order, 1)
            late = place[:, first] > place[:, second]
            order = np.where(late[:, None], _exchanged(order, first, second), order)
        streams = [draws.child() for _ in self.ops]
        values: dict[str, np.ndarray] = {"order": order.astype(np.uint8)}
        sizes = sizes.copy()
        for position in range(len(self.ops)):
            for number, (name, op) in enumerate(zip(self.names, self.ops, strict=True)):
                rows = np.flatnonzero(order[:, position] == number)
                drawn = op._draw(streams[number].rows(rows), sizes[rows], origin[rows])
                sizes[rows] = op._sizes(drawn, sizes[rows])
                for path, value in below(name, drawn).items():
                    values.setdefault(path, np.zeros((len(sizes), *value.shape[1:]), value.dtype))[rows] = value
        return values

    def _sizes(self, values: Values, sizes: Sizes) -> Sizes:
        sizes = sizes.copy()
        for op, rows, own in self._steps(values):
            sizes[rows] = op._sizes(own, sizes[rows])
        return sizes

    def _check(self, values: Values, sizes: Sizes) -> None:
        order = values["order"]
        if not (np.sort(order, 1) == np.arange(len(self.ops))).all():
            raise ValueError(f"Shuffle: expected each order to name all of {len(self.ops)} parts once.")
        sizes = sizes.copy()
        for op, rows, own in self._steps(values):
            op._check(own, sizes[rows])
            sizes[rows] = op._sizes(own, sizes[rows])

    def _steps(self, values: Values) -> Sequence[tuple[Op, np.ndarray, Values]]:
        """Gives what is done to which samples, first to last."""
        steps = []
        for position in range(len(self.ops)):
            for number, (name, op) in enumerate(zip(self.names, self.ops, strict=True)):
                rows = np.flatnonzero(values["order"][:, position] == number)
                if len(rows):
                    steps.append((op, rows, rows_of(part_of(values, name), rows)))
        return steps

    def _parts(self, values: Values) -> list[Part]:
        return [(self.ops[number], part_of(values, self.names[number])) for number in values["order"]]

    def _batch(self, canvas: Canvas, values: Values, mode: Mode) -> Canvas:
        for position in range(len(self.ops)):
            canvas = routed(canvas, values["order"][:, position], [
                lambda part, samples, op=op, name=name: op._batch(part, rows_of(part_of(values, name), samples), mode)
                for name, op in zip(self.names, self.ops, strict=True)
            ])  # fmt: skip
        return canvas


def _check_some(op: Op, values: Values, sizes: Sizes, chosen: np.ndarray) -> None:
    rows = np.flatnonzero(chosen)
    if len(rows):
        op._check(rows_of(values, rows), sizes[rows])


def _exchanged(order: np.ndarray, first: int, second: int) -> np.ndarray:
    return np.where(order == first, second, np.where(order == second, first, order))

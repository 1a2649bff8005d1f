"""Putting ops together."""

import functools
import re
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from ._canvas import Canvas
from ._draws import Draws
from ._fused import blurred_and_reduced, enlarged_levels
from ._pixels import pixels_from_planes, planes_from_pixels
from ._run import Images, Mode
from .blur import Blur
from .colour import Round
from .op import Op, Pixels, Sizes
from .record import Values, below, parts_of
from .resample import INTERPOLATIONS, Resampling


@dataclass(frozen=True, kw_only=True)
class Chain(Op):
    """Ops one after the other.

    Values of the parts are recorded under their names: `gaussian_blur.sigma`, `jpeg.quality`, and `jpeg_2.quality` for
    a second one.

    Args:
        ops: What is done, first to last.
    """

    ops: tuple[Op, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the parts in a record."""
        return part_names(self.ops)

    def _draw(self, draws: Draws, sizes: Sizes, origin: Sizes) -> dict[str, np.ndarray]:
        values: dict[str, np.ndarray] = {}
        for name, op in zip(self.names, self.ops, strict=True):
            drawn = op._draw(draws.child(), sizes, origin)
            sizes = op._sizes(drawn, sizes)
            values |= below(name, drawn)
        return values

    def _sizes(self, values: Values, sizes: Sizes) -> Sizes:
        for op, own in self._parts(values):
            sizes = op._sizes(own, sizes)
        return sizes

    def _check(self, values: Values, sizes: Sizes) -> None:
        for op, own in self._parts(values):
            op._check(own, sizes)
            sizes = op._sizes(own, sizes)

    def _parts(self, values: Values) -> list[tuple[Op, Values]]:
        """Gives the parts, each with its own values."""
        own = parts_of(values)
        return [(op, own.get(name, {})) for name, op in zip(self.names, self.ops, strict=True)]

    def _planes(self, planes: np.ndarray, values: Values, strict: bool, dtype: type) -> np.ndarray:
        parts = self._parts(values)
        height, width = planes.shape[1:]
        if not strict and len(parts) > 1 and isinstance(parts[0][0], Blur) and _is_bilinear(*parts[1]):
            new = (int(side) for side in parts[1][1]["size"])
            image = blurred_and_reduced(planes, parts[0][1], *new)
            parts = parts[2:]
        else:
            image = pixels_from_planes(planes)
        fused_end = len(parts) > 1 and isinstance(parts[-1][0], Round) and _is_bilinear(*parts[-2])
        for op, own in parts[:-2] if fused_end else parts:
            image = op._one(image, own, strict)
        if not fused_end:
            return planes_from_pixels(image, dtype)
        height, width = (int(side) for side in parts[-2][1]["size"])
        if strict:
            image = parts[-1][0]._one(parts[-2][0]._one(image, parts[-2][1], strict), {}, strict)
            return planes_from_pixels(image, dtype)
        return enlarged_levels(image, height, width, dtype)

    def _one(self, image: Pixels, values: Values, strict: bool) -> Pixels:
        for op, own in self._parts(values):
            image = op._one(image, own, strict)
        return image

    def _batch(self, canvas: Canvas, values: Values, mode: Mode) -> Canvas:
        from ._torch_fused import fuses, resized_at_once

        parts = self._parts(values)
        while parts:
            op, own = parts.pop(0)
            if isinstance(op, Blur) and parts and _is_bilinear(*parts[0]) and fuses(canvas, mode):
                canvas = resized_at_once(canvas, parts.pop(0)[1]["size"].astype(np.int64), own)
            else:
                canvas = op._batch(canvas, own, mode)
        return canvas


class Paired(NamedTuple):
    """Two degradations of the same image."""

    first: Images
    second: Images


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two ops that each degrade the same image, with draws of their own.

    Args:
        first: One degradation.
        second: The other.
    """

    first: Op
    second: Op

    def __call__(self, image: Images, *, generator: torch.Generator | None = None, mode: Mode = "fast") -> Paired:
        """Gives both degradations.

        Args:
            image: As for an op.
            generator: As for an op; the first op draws first.
            mode: As for an op.

        Returns:
            first: What the first op makes of the image.
            second: What the second op makes of it.
        """
        return Paired(*(op(image, generator=generator, mode=mode) for op in (self.first, self.second)))


def _is_bilinear(op: Op, values: Values) -> bool:
    """Says whether an op resizes as `cv2.INTER_LINEAR` does, one sample or all of a batch."""
    if not isinstance(op, Resampling) or op.rules != "cv2":
        return False
    return bool(np.all(values["interpolation"] == INTERPOLATIONS.index("bilinear")))


def part_names(ops: tuple[Op, ...]) -> tuple[str, ...]:
    """Gives each part its class name in lower case, with a number from the second of a kind on."""
    return _names(tuple(type(op).__name__ for op in ops))


@functools.cache
def _names(classes: tuple[str, ...]) -> tuple[str, ...]:
    names: list[str] = []
    for name in classes:
        stem = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
        before = sum(name == stem or re.fullmatch(rf"{stem}_\d+", name) is not None for name in names)
        names.append(f"{stem}_{before + 1}" if before else stem)
    return tuple(names)

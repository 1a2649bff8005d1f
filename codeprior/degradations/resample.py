"""Changing the size: by a drawn factor, by a drawn scale, and back to the size the chain began with.

`cv2` rules: half-pixel centres, no antialias, coordinates in double precision, horizontal pass first, each pass one
fused multiply-add in single precision. `torch` rules: `torch.nn.functional.interpolate`.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ._canvas import Canvas
from ._draws import Draws
from ._run import Mode
from .blur import ordered
from .op import Op, Pixels, Sizes, reject
from .record import Values

Interpolation = Literal["bilinear", "bicubic", "area", "nearest"]
INTERPOLATIONS: tuple[Interpolation, ...] = ("bilinear", "bicubic", "area", "nearest")


class Resampling(Op):
    """A change of size; the record holds the new size in whole pixels and the interpolation."""

    interpolation: tuple[Interpolation, ...] | Interpolation
    rules: Literal["cv2", "torch"]

    def __post_init__(self) -> None:
        for name in self._modes():
            if name not in INTERPOLATIONS:
                known = ", ".join(INTERPOLATIONS)
                raise ValueError(f"{type(self).__name__}: expected an interpolation of {known}, got {name!r}.")
        if self.rules not in ("cv2", "torch"):
            raise ValueError(f"{type(self).__name__}: expected rules cv2 or torch, got {self.rules!r}.")

    def _modes(self) -> tuple[Interpolation, ...]:
        return (self.interpolation,) if isinstance(self.interpolation, str) else self.interpolation

    def _drawn(self, draws: Draws, new: np.ndarray) -> dict[str, np.ndarray]:
        modes = np.array([INTERPOLATIONS.index(name) for name in self._modes()], np.uint8)
        reject(
            self, (new < 1).any(1), "expected a result of one pixel or more; use a smaller factor or a larger image."
        )
        return {"size": new.astype(np.int32), "interpolation": modes[draws.choice([1] * len(modes))]}

    def _sizes(self, values: Values, sizes: Sizes) -> Sizes:
        return values["size"].astype(np.int64)

    def _check(self, values: Values, sizes: Sizes) -> None:
        reject(self, (values["size"] < 1).any(1), "expected a size of one pixel or more.")

    def _one(self, image: Pixels, values: Values, strict: bool) -> Pixels:
        from ._resize import resize_pixels

        height, width = (int(side) for side in values["size"])
        return resize_pixels(image, height, width, INTERPOLATIONS[int(values["interpolation"])], self.rules)

    def _batch(self, canvas: Canvas, values: Values, mode: Mode) -> Canvas:
        from ._torch_resize import resize_canvas

        return resize_canvas(canvas, values, self.rules, INTERPOLATIONS, mode)


@dataclass(frozen=True, kw_only=True)
class Resize(Resampling):
    """Divides both sides by a drawn factor: `int(side // factor)`, so 512 by 0.8 is 639.

    Args:
        factor: Range of the factor; below 1 enlarges.
        interpolation: How, or several of which one is drawn.
        rules: Whose arithmetic.
    """

    factor: tuple[float, float] = (0.8, 8)
    interpolation: tuple[Interpolation, ...] | Interpolation = "bilinear"
    rules: Literal["cv2", "torch"] = "cv2"

    def __post_init__(self) -> None:
        super().__post_init__()
        ordered(self, "factor")
        if not self.factor[0] > 0:
            raise ValueError(f"Resize: expected factors above 0, got {self.factor}.")

    def _draw(self, draws: Draws, sizes: Sizes, origin: Sizes) -> dict[str, np.ndarray]:
        return self._drawn(draws, (sizes // draws.uniform(*self.factor)[:, None]).astype(np.int64))


@dataclass(frozen=True, kw_only=True)
class Rescale(Resampling):
    """Multiplies the sides by a scale that is drawn up, down or 1: `int(side · scale)`.

    Args:
        scale: Lowest and highest scale; up draws U(1, highest), down U(lowest, 1).
        chances: Weights of up, down and keep.
        divide: The scale applies to the side the chain began with, divided by this; 0 means the side here.
        interpolation: How, or several of which one is drawn.
        rules: Whose arithmetic.
    """

    scale: tuple[float, float] = (0.15, 1.5)
    chances: tuple[float, float, float] = (0.2, 0.7, 0.1)
    divide: int = 0
    interpolation: tuple[Interpolation, ...] | Interpolation = ("area", "bilinear", "bicubic")
    rules: Literal["cv2", "torch"] = "torch"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.scale[0] <= 1 <= self.scale[1]:
            raise ValueError(f"Rescale: expected scale=(low, high) with 0 < low ≤ 1 ≤ high, got {self.scale}.")

    def _draw(self, draws: Draws, sizes: Sizes, origin: Sizes) -> dict[str, np.ndarray]:
        way, unit = draws.choice(self.chances), draws.unit()
        low, high = self.scale
        scale = np.choose(way, [1 + (high - 1) * unit, low + (1 - low) * unit, np.ones(len(unit))])
        start = origin / self.divide if self.divide else sizes
        return self._drawn(draws, (start * scale[:, None]).astype(np.int64))


@dataclass(frozen=True, kw_only=True)
class ResizeBack(Resampling):
    """Gives the size the chain began with, or a whole fraction of it.

    Args:
        divide: The sides are the first ones divided by this, rounded down.
        interpolation: How, or several of which one is drawn.
        rules: Whose arithmetic.
    """

    divide: int = 1
    interpolation: tuple[Interpolation, ...] | Interpolation = "bilinear"
    rules: Literal["cv2", "torch"] = "cv2"

    def _draw(self, draws: Draws, sizes: Sizes, origin: Sizes) -> dict[str, np.ndarray]:
        return self._drawn(draws, origin // self.divide)

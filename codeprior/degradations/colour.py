"""Colour: rounding to the 8-bit grid and clamping."""

from dataclasses import dataclass

import numpy as np

from ._canvas import Canvas
from ._draws import Draws
from ._run import Mode
from .op import Op, Pixels, Sizes
from .record import Values


@dataclass(frozen=True, kw_only=True)
class Round(Op):
    """Clamps and rounds to the 8-bit grid, half to even. In mode `diff` the gradient passes unchanged."""

    def _draw(self, draws: Draws, sizes: Sizes, origin: Sizes) -> dict[str, np.ndarray]:
        return {}

    def _one(self, image: Pixels, values: Values, strict: bool) -> Pixels:
        return np.rint(np.clip(image, 0, 1) * np.float32(255)) / np.float32(255)

    def _batch(self, canvas: Canvas, values: Values, mode: Mode) -> Canvas:
        clamped = canvas.pixels.clamp(0, 1)
        rounded = (clamped * 255).round() / 255
        if mode == "diff":
            rounded = clamped + (rounded - clamped).detach()
        return Canvas(rounded, canvas.sizes)

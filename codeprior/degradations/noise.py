"""Noise: Gaussian in colour or grey, Poisson (shot) and speckle, as functions of a recorded key and the pixel's place."""

from dataclasses import dataclass

import numpy as np

from ._canvas import Canvas
from ._draws import Draws
from ._normal import normal_field, quantile_table
from ._run import Mode
from .blur import ordered
from .op import Op, Pixels, Sizes, reject
from .record import Values


@dataclass(frozen=True, kw_only=True)
class GaussianNoise(Op):
    """Adds normal noise, then clips to [0, 1] without rounding.

    Args:
        sigma: Range of the standard deviation, 8-bit levels.
        grey: Chance that the three channels share one field.
        clip: Whether the result is clipped.

    Source: XPixelGroup/BasicSR:basicsr/data/degradations.py; there grey noise is one field for the whole batch on the GPU,
        here one a sample.
    """

    sigma: tuple[float, float] = (0, 20)
    grey: float = 0.0
    clip: bool = True

    def __post_init__(self) -> None:
        ordered(self, "sigma")

    def _draw(self, draws: Draws, sizes: Sizes, origin: Sizes) -> dict[str, np.ndarray]:
        return {
            "sigma": draws.uniform(*self.sigma).astype(np.float32),
            "grey": draws.coin(self.grey),
            "key": draws.key(),
        }

    def _check(self, values: Values, sizes: Sizes) -> None:
        reject(self, ~(values["sigma"] >= 0), "expected a noise sigma of 0 or more 8-bit levels.")

    def _one(self, image: Pixels, values: Values, strict: bool) -> Pixels:
        if self.clip and not strict:
            from ._native import add_normal

            sigma, grey = np.float32(values["sigma"]), bool(values["grey"])
            return add_normal(np.ascontiguousarray(image), int(values["key"]), sigma, grey, *quantile_table())
        height, width, _ = image.shape
        field = normal_field(int(values["key"]), height, width, 1 if values["grey"] else 3)
        noisy = image + field * np.float32(values["sigma"]) / np.float32(255)
        return np.clip(noisy, 0, 1) if self.clip else noisy

    def _batch(self, canvas: Canvas, values: Values, mode: Mode) -> Canvas:
        from ._torch_noise import gaussian_canvas

        return gaussian_canvas(canvas, values, self.clip)

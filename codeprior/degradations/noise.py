"""Noise: Gaussian in colour or grey, Poisson (shot) and speckle, as functions of a key and the pixel's place."""

from dataclasses import dataclass

import numpy as np

from ._canvas import Canvas
from ._draws import Draws
from ._normal import normal_field, quantile_table
from ._poisson import poisson_canvas, poisson_pixels
from ._run import Mode
from ._torch_noise import gaussian_canvas, normal_canvas
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

    Source: XPixelGroup/BasicSR:basicsr/data/degradations.py; there grey noise is one field for the whole batch on the
        GPU, here one a sample.
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
        if self.clip:
            from ._native_noise import add_normal

            sigma, grey = np.float32(values["sigma"]), bool(values["grey"])
            return add_normal(np.ascontiguousarray(image), int(values["key"]), sigma, grey, *quantile_table())
        height, width, _ = image.shape
        field = normal_field(int(values["key"]), height, width, 1 if values["grey"] else 3)
        noisy = image + field * np.float32(values["sigma"]) / np.float32(255)
        return np.clip(noisy, 0, 1) if self.clip else noisy

    def _batch(self, canvas: Canvas, values: Values, mode: Mode) -> Canvas:
        return gaussian_canvas(canvas, values, self.clip)


@dataclass(frozen=True, kw_only=True)
class PoissonNoise(Op):
    """Shot noise: counts of mean `level · pixel` are drawn, and their departure from the mean is added.

    The image is rounded to 8 bits first. `level` is the number of distinct 8-bit values in it, rounded up to a power of
    two: a dark, flat picture is noisier than a rich one.

    Args:
        scale: Range of the factor on the departure.
        grey: Chance that the noise of the luma goes to all three channels.
        clip: Whether the result is clipped to [0, 1].

    Source: XPixelGroup/BasicSR:basicsr/data/degradations.py. Counts come from the quantile function of a recorded key,
        up to means of 256.
    """

    scale: tuple[float, float] = (0.05, 3)
    grey: float = 0.4
    clip: bool = True

    def __post_init__(self) -> None:
        ordered(self, "scale")

    def _draw(self, draws: Draws, sizes: Sizes, origin: Sizes) -> dict[str, np.ndarray]:
        return {
            "scale": draws.uniform(*self.scale).astype(np.float32),
            "grey": draws.coin(self.grey),
            "key": draws.key(),
        }

    def _check(self, values: Values, sizes: Sizes) -> None:
        reject(self, ~(values["scale"] >= 0), "expected a noise scale of 0 or more.")

    def _one(self, image: Pixels, values: Values, strict: bool) -> Pixels:
        noise = poisson_pixels(image, int(values["key"]), bool(values["grey"]))
        noisy = image + noise * np.float32(values["scale"])
        return np.clip(noisy, 0, 1) if self.clip else noisy

    def _batch(self, canvas: Canvas, values: Values, mode: Mode) -> Canvas:
        noise = poisson_canvas(canvas, values["key"], values["grey"])
        noisy = canvas.pixels + noise * canvas.per_sample(values["scale"].astype(np.float32))
        return Canvas(noisy.clamp(0, 1) if self.clip else noisy, canvas.sizes)


@dataclass(frozen=True, kw_only=True)
class SpeckleNoise(Op):
    """Multiplies by normal noise around 1: `image + image · field`.

    Args:
        sigma: Range of the standard deviation, 8-bit levels at white.
        grey: Chance that the three channels share one field.
        clip: Whether the result is clipped to [0, 1].
    """

    sigma: tuple[float, float] = (2, 25)
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
        height, width, _ = image.shape
        field = normal_field(int(values["key"]), height, width, 1 if values["grey"] else 3)
        noisy = image + image * (field * np.float32(values["sigma"]) / np.float32(255))
        return np.clip(noisy, 0, 1) if self.clip else noisy

    def _batch(self, canvas: Canvas, values: Values, mode: Mode) -> Canvas:
        field = normal_canvas(canvas, values["key"], values["grey"])
        noise = field * canvas.per_sample(values["sigma"].astype(np.float32)) / 255
        noisy = canvas.pixels + canvas.pixels * noise
        return Canvas(noisy.clamp(0, 1) if self.clip else noisy, canvas.sizes)

"""Noise: Gaussian in colour or grey, Poisson (shot) and speckle, as functions of a key and the pixel's place.

In a batch it is made of bits, tables and single operations, so that every device gives the CPU's numbers. Poisson
counts follow from the quantile function: a table of cumulative probabilities and a search. The image is on the 8-bit
grid and the level a power of two up to 256, so there are 9 · 256 means at most.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ._canvas import Canvas
from ._draws import Draws, mix, normal_field, quantile_table
from ._run import Mode
from .op import Op, Pixels, Sizes, ordered, reject
from .record import Values

_LUMA = (0.2989, 0.587, 0.114)
_COUNTS = 512  # more than a mean of 256 reaches with 32 bits: 6.2 standard deviations above it is 356


@dataclass(frozen=True, kw_only=True)
class GaussianNoise(Op):
    """Adds normal noise, then clips to [0, 1] without rounding.

    Args:
        sigma: Range of the standard deviation, 8-bit levels.
        grey: Chance that the three channels share one field.
        clip: Whether the result is clipped.

    Source: XPixelGroup/BasicSR:basicsr/data/degradations.py; there grey noise is one field for the whole batch on the
        GPU, here one per sample.
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
            from ._native import add_normal

            sigma, grey = np.float32(values["sigma"]), bool(values["grey"])
            return add_normal(np.ascontiguousarray(image), int(values["key"]), sigma, grey, *quantile_table())
        height, width, _ = image.shape
        field = normal_field(int(values["key"]), height, width, 1 if values["grey"] else 3)
        noisy = image + field * np.float32(values["sigma"]) / np.float32(255)
        return np.clip(noisy, 0, 1) if self.clip else noisy

    def _batch(self, canvas: Canvas, values: Values, mode: Mode) -> Canvas:
        field = normal_canvas(canvas, values["key"], values["grey"])
        noise = field * canvas.per_sample(values["sigma"].astype(np.float32)) / 255
        noisy = canvas.pixels + noise
        return Canvas(noisy.clamp(0, 1) if self.clip else noisy, canvas.sizes)


@dataclass(frozen=True, kw_only=True)
class PoissonNoise(Op):
    """Shot noise: counts of mean `level · pixel` are drawn, and their difference from the mean is added.

    The image is rounded to 8 bits first. `level` is the number of distinct 8-bit values in it, rounded up to a power of
    two: a dark picture of few values gets more noise than one of many values.

    Args:
        scale: Range of the factor on that difference.
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
        noise = _poisson_pixels(image, int(values["key"]), bool(values["grey"]))
        noisy = image + noise * np.float32(values["scale"])
        return np.clip(noisy, 0, 1) if self.clip else noisy

    def _batch(self, canvas: Canvas, values: Values, mode: Mode) -> Canvas:
        noise = _poisson_canvas(canvas, values["key"], values["grey"])
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


def normal_canvas(canvas: Canvas, keys: np.ndarray, grey: np.ndarray) -> Tensor:
    """Gives the normal field of each sample's key on the canvas: `b 3 H W`."""
    from codeprior.kernels.normal_field import normal_field

    height, width = canvas.pixels.shape[-2:]
    return normal_field(
        canvas.send(_mixed(keys)),
        canvas.send(np.asarray(grey, bool)),
        sizes=canvas.extent(),
        quantiles=canvas.send(np.stack(quantile_table())),
        canvas=(height, width),
    )


def _uniform_canvas(canvas: Canvas, keys: np.ndarray, grey: np.ndarray) -> Tensor:
    """Gives 32 random bits for each place of the canvas, as whole numbers: `b 3 H W`."""
    from codeprior.kernels.normal_field.reference import places, random_bits, shifted

    height, width = canvas.pixels.shape[-2:]
    place = places(canvas.send(np.asarray(grey, bool)), canvas.extent(), (height, width))
    return shifted(random_bits(canvas.send(_mixed(keys)), place + 1), 32)


def _mixed(keys: np.ndarray) -> np.ndarray:
    return mix(np.asarray(keys, np.int64).view(np.uint64)).view(np.int64)


@functools.cache
def _count_table(level: int) -> NDArray[np.int64]:
    """Gives the chance of each count or a smaller one for each 8-bit value, in units of 2⁻³²: `256 512`."""
    means = np.arange(256) / 255 * level
    counts = np.arange(_COUNTS)
    factorials = np.array([math.lgamma(count + 1) for count in counts])
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(means[:, None] > 0, counts * np.log(means)[:, None], np.where(counts == 0, 0, -np.inf))
    chances = np.exp(logs - means[:, None] - factorials)
    table = np.floor(np.minimum(np.cumsum(chances, 1), 1) * 2.0**32).astype(np.int64)
    table[:, -1] = 1 << 32
    return table


def _poisson_pixels(image: NDArray[np.float32], key: int, grey: bool) -> np.ndarray:
    """Gives the noise of one image, `H W 3`, to be scaled and added."""
    from ._native import poisson_counts

    height, width, _ = image.shape
    values = np.rint(np.clip(image, 0, 1) * np.float32(255))
    if grey:
        values = np.rint(values @ np.array(_LUMA, np.float32))[..., None]
    whole = values.astype(np.uint8)
    level = 1 << max(int(np.count_nonzero(np.bincount(whole.ravel(), minlength=256))) - 1, 0).bit_length()
    counts = np.empty(whole.shape, np.int64)
    poisson_counts(whole, key, _count_table(level), counts)
    noise = counts.astype(np.float32) / np.float32(level) - whole.astype(np.float32) / np.float32(255)
    return np.broadcast_to(noise, (height, width, 3))


def _poisson_canvas(canvas: Canvas, keys: np.ndarray, grey: np.ndarray) -> Tensor:
    """Gives the noise of each image on the canvas: `b 3 H W`."""
    levels = (canvas.pixels.detach().clamp(0, 1) * 255).round()
    weights = torch.tensor(_LUMA).to(levels.device, non_blocking=True)[None, :, None, None]
    luma = (levels * weights).sum(1, keepdim=True).round().expand_as(levels)
    whole = torch.where(canvas.per_sample(np.asarray(grey, bool)), luma, levels).long()
    inside = canvas.inside().expand_as(whole)
    present = torch.zeros((len(whole), 257), dtype=torch.bool, device=whole.device)
    present = present.scatter(1, torch.where(inside, whole, 256).flatten(1), True)[:, :256]
    power = torch.ceil(torch.log2(present.sum(1).clamp(min=1).double())).long()
    tables = canvas.send(_all_tables())
    bits = _uniform_canvas(canvas, keys, grey)
    start = (power[:, None, None, None] * 256 + torch.where(inside, whole, 0)) * _COUNTS
    low = torch.zeros_like(bits)
    for step in (256, 128, 64, 32, 16, 8, 4, 2, 1):
        passed = tables[start + low + (step - 1)] <= bits
        low = torch.where(passed, low + step, low)
    return low.float() / (2.0**power).float()[:, None, None, None] - whole.float() / 255


@functools.cache
def _all_tables() -> NDArray[np.int64]:
    return np.concatenate([_count_table(1 << power).ravel() for power in range(9)])

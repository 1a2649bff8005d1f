"""Blurs: Gaussian, generalised Gaussian, plateau, sinc, motion and defocus, and a mix of them.

All are correlations with a drawn kernel, reflect-101 at the border (repeated for images smaller than the kernel), as
`cv2.filter2D` does it. Source: XPixelGroup/BasicSR:basicsr/data/degradations.py for the Gaussian family and sinc.

A record holds a few numbers for each kernel, from which its matrix follows. Gaussian family, after BasicSR: grid of
whole pixels centred on 0, covariance `R(θ) diag(σx², σy²) R(θ)ᵀ`, quadratic form `q = xᵀ Σ⁻¹ x`, weights normalised to
the sum 1. The window is part of the model: it is never widened with σ, so σ 15 in 41 taps acts like 10.4.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codeprior.extras import needed

from ._canvas import Canvas
from ._draws import Draws
from ._run import Mode
from .op import Kind, Op, Pixels, Sizes, ordered, reject
from .record import Values

Matrix = NDArray[np.float64]

GAUSSIAN, GENERALISED, PLATEAU, SINC, MOTION, DEFOCUS = range(6)

NEGLIGIBLE = 1e-11
"""Weight below which a tap may be dropped: 1681 of them together are less than a rounding."""

Number = float | Matrix
"""One kernel's, or `b 1 1` of a batch's."""

_ALL_ANGLES = (-math.pi, math.pi)


class Blur(Op):
    """A correlation with a kernel that is drawn for each sample."""

    def _draw(self, draws: Draws, sizes: Sizes, origin: Sizes) -> dict[str, np.ndarray]:
        return self._kernels(draws)

    def _kernels(self, draws: Draws) -> dict[str, np.ndarray]:
        raise NotImplementedError

    def _check(self, values: Values, sizes: Sizes) -> None:
        size, sigma, kind = values["size"], values["sigma"], values["kind"]
        reject(
            self, (size % 2 == 0) | (size < 1), "expected an odd kernel size of 1 pixel or more; even kernels shift."
        )
        gaussian = (kind <= PLATEAU)[:, None]
        reject(self, (gaussian & ~(sigma > 0)).any(1), "expected sigma above 0 pixels.")
        reject(self, (kind > PLATEAU) & ~(values["shape"] > 0), "expected a cut-off, length or radius above 0.")

    def _one(self, image: Pixels, values: Values, strict: bool) -> Pixels:
        cv2 = needed("cv2", who="a strict blur on the CPU")

        return cv2.filter2D(image, -1, kernel_matrix(values), borderType=cv2.BORDER_REFLECT_101)

    def _batch(self, canvas: Canvas, values: Values, mode: Mode) -> Canvas:
        return correlated_canvas(canvas, kernel_matrices(values))

    def _kind(self, values: Values) -> Kind | None:
        return "blur"


@dataclass(frozen=True, kw_only=True)
class GaussianBlur(Blur):
    """A Gaussian, round or stretched and turned.

    Args:
        size: Kernel sizes, one of them drawn; odd, pixels.
        sigma: Range of the standard deviation, pixels; a stretched one draws two.
        isotropic: Chance that it is round.
        angle: Range of the rotation, radians.

    Example:
        >>> import torch
        >>> blur = GaussianBlur(size=(41,), sigma=(1, 15))
        >>> blur(torch.ones(3, 64, 64), generator=torch.Generator().manual_seed(0)).shape
        torch.Size([3, 64, 64])
    """

    size: tuple[int, ...] = (41,)
    sigma: tuple[float, float] = (0.1, 10)
    isotropic: float = 0.5
    angle: tuple[float, float] = _ALL_ANGLES

    def __post_init__(self) -> None:
        ordered(self, "sigma", "angle")
        odd(self, self.size)

    def _kernels(self, draws: Draws) -> dict[str, np.ndarray]:
        return _gaussian_rows(draws, GAUSSIAN, self.size, self.sigma, self.isotropic, self.angle, np.ones(len(draws)))


@dataclass(frozen=True, kw_only=True)
class GeneralisedBlur(Blur):
    """`exp(-½ qᵝ)`: flatter than a Gaussian for β above 1, peaked below.

    Args:
        size: Kernel sizes, one of them drawn; odd, pixels.
        sigma: Range of the standard deviation, pixels.
        isotropic: Chance that it is round.
        angle: Range of the rotation, radians.
        beta: Range of β; half the draws fall below 1, half above.
    """

    size: tuple[int, ...] = (21,)
    sigma: tuple[float, float] = (0.2, 3)
    isotropic: float = 0.5
    angle: tuple[float, float] = _ALL_ANGLES
    beta: tuple[float, float] = (0.5, 4)

    def __post_init__(self) -> None:
        ordered(self, "sigma", "angle", "beta")
        odd(self, self.size)

    def _kernels(self, draws: Draws) -> dict[str, np.ndarray]:
        beta = _around_one(draws, self.beta)
        return _gaussian_rows(draws, GENERALISED, self.size, self.sigma, self.isotropic, self.angle, beta)


@dataclass(frozen=True, kw_only=True)
class PlateauBlur(Blur):
    """`1 / (1 + qᵝ)`: a plateau with heavy tails.

    Args:
        size: Kernel sizes, one of them drawn; odd, pixels.
        sigma: Range of the standard deviation, pixels.
        isotropic: Chance that it is round.
        angle: Range of the rotation, radians.
        beta: Range of β; half the draws fall below 1, half above.
    """

    size: tuple[int, ...] = (21,)
    sigma: tuple[float, float] = (0.2, 3)
    isotropic: float = 0.5
    angle: tuple[float, float] = _ALL_ANGLES
    beta: tuple[float, float] = (1, 2)

    def __post_init__(self) -> None:
        ordered(self, "sigma", "angle", "beta")
        odd(self, self.size)

    def _kernels(self, draws: Draws) -> dict[str, np.ndarray]:
        beta = _around_one(draws, self.beta)
        return _gaussian_rows(draws, PLATEAU, self.size, self.sigma, self.isotropic, self.angle, beta)


@dataclass(frozen=True, kw_only=True)
class Sinc(Blur):
    """A circular low-pass that rings, as sharpening and compression do.

    Its negative lobes give values outside [0, 1]; the next JPEG, or the end of the chain, clamps them.

    Args:
        size: Window sizes, one of them drawn; odd, pixels.
        cutoff: Range of the cut-off ω, radians a pixel; None draws U(π/3, π) below 13 pixels and U(π/5, π) from there.
    """

    size: tuple[int, ...] = (7, 9, 11, 13, 15, 17, 19, 21)
    cutoff: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.cutoff is not None:
            ordered(self, "cutoff")
        odd(self, self.size)

    def _kernels(self, draws: Draws) -> dict[str, np.ndarray]:
        size = _drawn_size(draws, self.size)
        if self.cutoff is None:
            low = np.where(size < 13, math.pi / 3, math.pi / 5)
            cutoff = low + (math.pi - low) * draws.unit()
        else:
            cutoff = draws.uniform(*self.cutoff)
        return _rows(SINC, size, sigma=size.astype(np.float64), shape=cutoff)


@dataclass(frozen=True, kw_only=True)
class MotionBlur(Blur):
    """A straight line of light, one pixel wide.

    Args:
        size: Kernel sizes, one of them drawn; odd, pixels. It also bounds the length.
        length: Range of the length, pixels.
        angle: Range of the direction, radians from the x axis.
    """

    size: tuple[int, ...] = (41,)
    length: tuple[float, float] = (7, 41)
    angle: tuple[float, float] = _ALL_ANGLES

    def __post_init__(self) -> None:
        ordered(self, "length", "angle")
        odd(self, self.size)

    def _kernels(self, draws: Draws) -> dict[str, np.ndarray]:
        size = _drawn_size(draws, self.size)
        length = np.minimum(draws.uniform(*self.length), size)
        return _rows(MOTION, size, angle=draws.uniform(*self.angle), shape=length)


@dataclass(frozen=True, kw_only=True)
class DefocusBlur(Blur):
    """A disc of light with a soft edge one pixel wide.

    Args:
        size: Kernel sizes, one of them drawn; odd, pixels.
        radius: Range of the radius, pixels.
    """

    size: tuple[int, ...] = (21,)
    radius: tuple[float, float] = (1, 8)

    def __post_init__(self) -> None:
        ordered(self, "radius")
        odd(self, self.size)

    def _kernels(self, draws: Draws) -> dict[str, np.ndarray]:
        return _rows(DEFOCUS, _drawn_size(draws, self.size), shape=draws.uniform(*self.radius))


@dataclass(frozen=True, kw_only=True)
class KernelMix(Blur):
    """One blur of several, drawn by weight.

    Args:
        blurs: The blurs to choose from.
        weights: Their chances, up to a factor.
    """

    blurs: tuple[Blur, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.blurs) != len(self.weights) or not self.blurs:
            raise ValueError(f"KernelMix: expected a weight a blur, got {len(self.weights)} for {len(self.blurs)}.")

    def _kernels(self, draws: Draws) -> dict[str, np.ndarray]:
        chosen = draws.choice(self.weights)
        rows = [blur._kernels(draws.child()) for blur in self.blurs]
        each = np.arange(len(draws))
        return {name: np.stack([row[name] for row in rows])[chosen, each] for name in rows[0]}


def odd(op: Op, sizes: Sequence[int]) -> None:
    """Raises where a kernel size is even or none is given."""
    if not sizes or any(size % 2 == 0 or not 1 <= size <= 255 for size in sizes):
        raise ValueError(f"{type(op).__name__}: expected odd kernel sizes from 1 to 255 pixels, got {tuple(sizes)}.")


def _drawn_size(draws: Draws, sizes: tuple[int, ...]) -> np.ndarray:
    return np.array(sizes, np.uint8)[draws.choice([1] * len(sizes))]


def _around_one(draws: Draws, beta: tuple[float, float]) -> np.ndarray:
    below, unit = draws.coin(0.5), draws.unit()
    return np.where(below, beta[0] + (1 - beta[0]) * unit, 1 + (beta[1] - 1) * unit)


def _gaussian_rows(draws: Draws, kind: int, sizes, sigma, isotropic: float, angle, shape) -> dict[str, np.ndarray]:
    size = _drawn_size(draws, sizes)
    round_ = draws.coin(isotropic)
    sigma_x, sigma_y, turned = draws.uniform(*sigma), draws.uniform(*sigma), draws.uniform(*angle)
    pair = np.stack([sigma_x, np.where(round_, sigma_x, sigma_y)], 1)
    return _rows(kind, size, sigma=pair, angle=np.where(round_, 0, turned), shape=shape)


def _rows(kind: int, size: np.ndarray, *, sigma=None, angle=None, shape=None) -> dict[str, np.ndarray]:
    count = len(size)
    sigma = np.ones((count, 2)) if sigma is None else sigma
    return {
        "kind": np.full(count, kind, np.uint8),
        "size": size,
        "sigma": (sigma if sigma.ndim == 2 else np.stack([sigma, sigma], 1)).astype(np.float32),
        "angle": np.asarray(np.zeros(count) if angle is None else angle, np.float32),
        "shape": np.asarray(np.ones(count) if shape is None else shape, np.float32),
    }


def kernel_matrix(values: Values) -> Matrix:
    """Gives the kernel of one row of drawn values.

    Args:
        values: `kind`, `size` (odd, pixels), `sigma` (2, pixels), `angle` (radians), `shape` (the kind's own number).

    Returns:
        Weights, `size size`, with the sum 1.
    """
    size = int(values["size"])
    sigma_x, sigma_y = (float(sigma) for sigma in values["sigma"])
    kernel = _KINDS[int(values["kind"])](size, sigma_x, sigma_y, float(values["angle"]), float(values["shape"]))
    return kernel / kernel.sum()


def kernel_matrices(values: Values) -> Matrix:
    """Gives the kernels of all rows of drawn values, smaller ones with zeros around: `b k k`."""
    largest = int(values["size"].max())
    within = np.abs(_axis(largest)) <= values["size"][:, None] // 2
    result = np.zeros((len(within), largest, largest))
    for kind in np.unique(values["kind"]):
        rows = np.flatnonzero(values["kind"] == kind)
        numbers = (*values["sigma"][rows].T, values["angle"][rows], values["shape"][rows])
        sigma_x, sigma_y, angle, shape = (number.astype(np.float64)[:, None, None] for number in numbers)
        kernels = _KINDS[kind](largest, sigma_x, sigma_y, angle, shape)
        kernels = kernels * within[rows, :, None] * within[rows, None, :]
        result[rows] = kernels / kernels.sum((1, 2), keepdims=True)
    return result


def is_separable(values: Values) -> bool:
    """Says whether the kernel is an outer product of two vectors along the axes."""
    sigma = values["sigma"]
    return int(values["kind"]) == GAUSSIAN and (sigma[0] == sigma[1] or values["angle"] == 0)


def gaussian_taps(size: int, sigma: float) -> NDArray[np.float64]:
    """Gives the taps of a Gaussian along one axis, with the sum 1."""
    taps = np.exp(-0.5 * (_axis(size) / sigma) ** 2)
    return taps / taps.sum()


def _axis(size: int) -> NDArray[np.float64]:
    return np.arange(size, dtype=np.float64) - size // 2


def _form(size: int, sigma_x: Number, sigma_y: Number, angle: Number) -> Matrix:
    axis = _axis(size)
    x, y = axis[None, :], axis[:, None]
    along = (np.cos(angle) * x + np.sin(angle) * y) / sigma_x
    across = (np.cos(angle) * y - np.sin(angle) * x) / sigma_y
    return along * along + across * across


def _gaussian(size: int, sigma_x: Number, sigma_y: Number, angle: Number, shape: Number) -> Matrix:
    return np.exp(-0.5 * _form(size, sigma_x, sigma_y, angle))


def _generalised(size: int, sigma_x: Number, sigma_y: Number, angle: Number, shape: Number) -> Matrix:
    return np.exp(-0.5 * _form(size, sigma_x, sigma_y, angle) ** shape)


def _plateau(size: int, sigma_x: Number, sigma_y: Number, angle: Number, shape: Number) -> Matrix:
    return 1 / (1 + _form(size, sigma_x, sigma_y, angle) ** shape)


def _sinc(size: int, sigma_x: Number, sigma_y: Number, angle: Number, shape: Number) -> Matrix:
    """Circular low-pass of cut-off ω = `shape`: ω J₁(ωr) / 2πr, ω²/4π at the centre; inside the window of `sigma_x`."""
    radius = np.hypot(_axis(size)[None, :], _axis(size)[:, None])
    inside = np.where(radius > 0, radius, 1)
    kernel = np.where(radius > 0, shape * _bessel_j1(shape * inside) / (2 * np.pi * inside), shape**2 / (4 * np.pi))
    half = np.floor(sigma_x) // 2
    window = np.abs(_axis(size))[None, :] <= half
    return kernel * window * np.swapaxes(window, -1, -2)


def _bessel_j1(x: Matrix) -> Matrix:
    """J₁ by its integral, (1/π) ∫₀^π cos(t − x sin t) dt; the trapezoid rule converges exponentially on it."""
    t = (np.arange(128) + 0.5) * (np.pi / 128)
    return np.cos(t - x[..., None] * np.sin(t)).mean(-1)


def _motion(size: int, sigma_x: Number, sigma_y: Number, angle: Number, shape: Number) -> Matrix:
    """A line of length `shape` through the centre, drawn with the coverage of a pixel-wide box."""
    axis = _axis(size)
    x, y = axis[None, :], axis[:, None]
    along = np.abs(np.cos(angle) * x + np.sin(angle) * y)
    across = np.abs(np.cos(angle) * y - np.sin(angle) * x)
    return np.clip(shape / 2 + 0.5 - along, 0, 1) * np.clip(1 - across, 0, 1)


def _defocus(size: int, sigma_x: Number, sigma_y: Number, angle: Number, shape: Number) -> Matrix:
    """A disc of radius `shape` with an edge one pixel wide."""
    radius = np.hypot(_axis(size)[None, :], _axis(size)[:, None])
    return np.clip(shape + 0.5 - radius, 0, 1)


_KINDS: tuple[Callable[[int, Number, Number, Number, Number], Matrix], ...] = (
    _gaussian,
    _generalised,
    _plateau,
    _sinc,
    _motion,
    _defocus,
)


def correlated_canvas(canvas: Canvas, kernels: np.ndarray) -> Canvas:
    """Gives each image correlated with a kernel of one size, `b k k` or `1 k k`, cast to single precision."""
    from codeprior.kernels.blur_resize.reference import correlated

    weights = canvas.send(kernels.astype(np.float32))
    return Canvas(correlated(canvas.pixels, weights, canvas.extent()), canvas.sizes)

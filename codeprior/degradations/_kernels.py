"""Blur kernels as matrices, from the few numbers that describe them.

Gaussian family, after BasicSR: grid of whole pixels centred on 0, covariance `R(θ) diag(σx², σy²) R(θ)ᵀ`, quadratic
form `q = xᵀ Σ⁻¹ x`, weights normalised to the sum 1. The window is part of the model: it is never widened with σ, so
σ 15 in 41 taps acts like 10.4.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from .record import Values

Matrix = NDArray[np.float64]

GAUSSIAN, GENERALISED, PLATEAU, SINC, MOTION, DEFOCUS = range(6)

NEGLIGIBLE = 1e-11
"""Weight below which a tap may be dropped: 1681 of them together are less than a rounding."""

Number = float | Matrix
"""One kernel's, or `b 1 1` of a batch's."""


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

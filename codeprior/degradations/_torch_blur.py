"""Blurs of a batch in torch, a kernel a sample."""

import numpy as np

from codeprior.kernels.blur_resize.reference import correlated

from ._canvas import Canvas
from ._kernels import kernel_matrices
from .record import Values


def blur_canvas(canvas: Canvas, values: Values) -> Canvas:
    """Gives each image correlated with its own kernel, reflect-101 at its own border."""
    return correlated_canvas(canvas, kernel_matrices(values))


def correlated_canvas(canvas: Canvas, kernels: np.ndarray) -> Canvas:
    """Gives each image correlated with a kernel of one size, `b k k` or `1 k k`, cast to single precision."""
    weights = canvas.send(kernels.astype(np.float32))
    return Canvas(correlated(canvas.pixels, weights, canvas.extent()), canvas.sizes)

"""Blurs of a batch in torch: one Fourier transform in double precision, a kernel a sample.

OpenCV casts the kernel to single precision, filters in double and rounds once; so does this.
"""

import numpy as np
import torch
from einops import rearrange

from ._canvas import Canvas
from ._kernels import kernel_matrix
from .record import Values


def blur_canvas(canvas: Canvas, values: Values) -> Canvas:
    """Gives each image correlated with its own kernel, reflect-101 at its own border."""
    largest = int(values["size"].max())
    kernels = np.zeros((len(canvas.sizes), largest, largest), np.float32)
    for number in range(len(canvas.sizes)):
        row = {name: value[number] for name, value in values.items()}
        margin = (largest - int(row["size"])) // 2
        inner = slice(margin, largest - margin)
        kernels[number, inner, inner] = kernel_matrix(row)
    return correlated(canvas, kernels)


def correlated(canvas: Canvas, kernels: np.ndarray) -> Canvas:
    """Gives each image correlated with a kernel of one size, `b k k` or `1 k k`."""
    size = kernels.shape[-1]
    half = size // 2
    height, width = canvas.pixels.shape[-2:]
    rows = reflected(np.arange(-half, height + half)[None], canvas.sizes[:, :1])
    columns = reflected(np.arange(-half, width + half)[None], canvas.sizes[:, 1:])
    padded = canvas.gather(rows, columns).double()
    shape = tuple(_fast_length(side) for side in padded.shape[-2:])
    spectrum = torch.fft.rfft2(padded, s=shape)
    weights = torch.fft.rfft2(canvas.send(rearrange(kernels, "b y x -> b 1 y x"), torch.float64), s=shape)
    result = torch.fft.irfft2(spectrum * weights.conj(), s=shape)[..., :height, :width]
    return Canvas(result.float(), canvas.sizes)


def reflected(places: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Gives places folded into [0, size) by reflect-101, as often as it takes."""
    period = np.maximum(2 * sizes - 2, 1)
    places = places % period
    return np.where(places >= sizes, period - places, places)


def _fast_length(side: int) -> int:
    """Gives the next even length that has no prime factor above 5."""
    length = side + side % 2
    while True:
        rest = length
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return length
        length += 2

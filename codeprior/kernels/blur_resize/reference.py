"""Blur and bilinear resizing in plain PyTorch: one Fourier transform in double precision, then gathers.

OpenCV casts the kernel to single precision, filters in double and rounds once; its bilinear rule is coordinates in
double precision, the horizontal pass first, and a fused multiply-add in single precision for each pass. This file does
the same.
"""

import torch
from einops import rearrange
from torch import Tensor

from codeprior.kernels._canvas import gathered


def correlated(pixels: Tensor, kernels: Tensor, sizes: Tensor) -> Tensor:
    """Gives each image correlated with its kernel, reflect-101 at its own border.

    Args:
        pixels: `b c H W`.
        kernels: `b k k` or `1 k k`, k odd.
        sizes: Height and width of each image: `b 2`.

    Returns:
        `b c H W`, float32.
    """
    half = kernels.shape[-1] // 2
    height, width = pixels.shape[-2:]
    rows, columns = _reflected(height, half, sizes[:, :1]), _reflected(width, half, sizes[:, 1:])
    padded = gathered(pixels, rows, columns).double()
    shape = tuple(_fast_length(side) for side in padded.shape[-2:])
    spectrum = torch.fft.rfft2(padded, s=shape)
    weights = torch.fft.rfft2(rearrange(kernels, "b y x -> b 1 y x").double(), s=shape)
    return torch.fft.irfft2(spectrum * weights.conj(), s=shape)[..., :height, :width].float()


def resized(
    pixels: Tensor, sizes: Tensor, targets: Tensor, canvas: tuple[int, int], *, rounded_twice: Tensor | None = None
) -> Tensor:
    """Gives each image at its new size, bilinearly by OpenCV's rule.

    Args:
        pixels: `b c H W`, float32.
        sizes: Height and width of each image: `b 2`.
        targets: Height and width of each result: `b 2`.
        canvas: Height and width of the canvas of the results.
        rounded_twice: Where product and sum of the vertical pass are rounded separately: `b c width`, bool.

    Returns:
        `b c` on the new canvas, float32.
    """
    rows, part_y = _between(canvas[0], sizes[:, :1], targets[:, :1])
    columns, part_x = _between(canvas[1], sizes[:, 1:], targets[:, 1:])
    everything = torch.arange(pixels.shape[-2], device=pixels.device).expand(len(pixels), -1)
    left = gathered(pixels, everything, columns)
    right = gathered(pixels, everything, torch.minimum(columns + 1, sizes[:, 1:] - 1))
    lines = _blended(left, right, part_x[:, None, None, :])
    across = torch.arange(canvas[1], device=pixels.device).expand(len(pixels), -1)
    upper = gathered(lines, rows, across)
    lower = gathered(lines, torch.minimum(rows + 1, sizes[:, :1] - 1), across)
    way = part_y[:, None, :, None]
    result = _blended(upper, lower, way)
    if rounded_twice is not None:
        result = torch.where(rounded_twice[:, :, None, :], upper + way * (lower - upper), result)
    return result


def _reflected(count: int, half: int, size: Tensor) -> Tensor:
    """Gives the places from −half to count + half folded into [0, size) by reflect-101, as often as it takes."""
    period = (2 * size - 2).clamp(min=1)
    place = torch.arange(-half, count + half, device=size.device)[None] % period
    return torch.where(place >= size, period - place, place)


def _between(count: int, size: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Gives the first of the two source places around each place, and the share of the way to the second."""
    scale = 1.0 / (target.double() / size.double())
    real = (torch.arange(count, dtype=torch.float64, device=size.device)[None] + 0.5) * scale - 0.5
    first = torch.floor(real).long()
    part = torch.where((first < 0) | (first >= size - 1), 0.0, real - first)
    return torch.minimum(first, size - 1).clamp(min=0), part.float()


def _blended(a: Tensor, b: Tensor, way: Tensor) -> Tensor:
    """A fused multiply-add: the product is exact in double precision, and rounded to single once."""
    return (way.double() * (b - a).double() + a.double()).float()


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

"""Poisson counts from a key and a place, by the quantile function: a table of cumulative probabilities and a search.

The image is on the 8-bit grid and the level a power of two up to 256, so there are 9 · 256 means at most.
"""

import functools
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ._canvas import Canvas
from ._torch_noise import uniform_canvas

_LUMA = (0.2989, 0.587, 0.114)
_COUNTS = 512  # more than a mean of 256 reaches with 32 bits: 6.2 standard deviations above it is 356


@functools.cache
def count_table(level: int) -> NDArray[np.int64]:
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


def poisson_pixels(image: NDArray[np.float32], key: int, grey: bool) -> np.ndarray:
    """Gives the noise of one image, `H W 3`, to be scaled and added."""
    height, width, _ = image.shape
    values = np.rint(np.clip(image, 0, 1) * np.float32(255))
    if grey:
        values = np.rint(values @ np.array(_LUMA, np.float32))[..., None]
    whole = values.astype(np.uint8)
    level = 1 << max(int(np.count_nonzero(np.bincount(whole.ravel(), minlength=256))) - 1, 0).bit_length()
    counts = np.empty(whole.shape, np.int64)
    from ._native_noise import poisson_counts

    poisson_counts(whole, key, count_table(level), counts)
    noise = counts.astype(np.float32) / np.float32(level) - whole.astype(np.float32) / np.float32(255)
    return np.broadcast_to(noise, (height, width, 3))


def poisson_canvas(canvas: Canvas, keys: np.ndarray, grey: np.ndarray) -> Tensor:
    """Gives the noise of each image on the canvas: `b 3 H W`."""
    levels = (canvas.pixels.detach().clamp(0, 1) * 255).round()
    weights = torch.tensor(_LUMA).to(levels.device, non_blocking=True)[None, :, None, None]
    luma = (levels * weights).sum(1, keepdim=True).round().expand_as(levels)
    whole = torch.where(canvas.per_sample(np.asarray(grey, bool)), luma, levels).long()
    inside = canvas.inside().expand_as(whole)
    seen = torch.zeros((len(whole), 257), dtype=torch.bool, device=whole.device)
    seen = seen.scatter(1, torch.where(inside, whole, 256).flatten(1), True)[:, :256]
    power = torch.ceil(torch.log2(seen.sum(1).clamp(min=1).double())).long()
    tables = canvas.send(_all_tables())
    bits = uniform_canvas(canvas, keys, grey)
    start = (power[:, None, None, None] * 256 + torch.where(inside, whole, 0)) * _COUNTS
    low = torch.zeros_like(bits)
    for step in (256, 128, 64, 32, 16, 8, 4, 2, 1):
        passed = tables[start + low + (step - 1)] <= bits
        low = torch.where(passed, low + step, low)
    return low.float() / (2.0**power).float()[:, None, None, None] - whole.float() / 255


@functools.cache
def _all_tables() -> NDArray[np.int64]:
    return np.concatenate([count_table(1 << power).ravel() for power in range(9)])

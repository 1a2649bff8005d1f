"""The trustworthy limit, measured where the clean face is known: the truth that the estimator is trained and judged by.

Both faces are taken to their spectra. Going up in frequency, the limit is where the error first holds more than a
quarter of the energy of the clean face, which is an error of half the amplitude. For a blur without noise this is the
frequency at which the transfer falls to one half, the MTF50 of photography; noise, quantisation and compression lower
the limit to where they reach half the amplitude of the face.
"""

import functools
import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the luma of JPEG."""

_ERROR = 0.25  # of the energy: half of the amplitude
_PER_OCTAVE = 6


def measured_limit(clean: Float[Tensor, "3 H W"], degraded: Float[Tensor, "3 H W"]) -> float:
    """Gives the highest spatial frequency of a degraded face that is still trustworthy, measured against the clean one.

    It is the lowest frequency `f` with `E(f) > ¼ S(f)`, where `S` is the energy of the clean face and `E` that of the
    difference, both summed over rings of a sixth of an octave of the luma's spectrum under a Hann window.

    Args:
        clean: The face before damage, unit, [0, 1], at the size of the degraded one.
        degraded: The same face after damage, unit, [0, 1].

    Returns:
        Cycles per pixel, in (0, 0.5]; 0.5 where no ring is lost. Of a source that is soft itself, this is what is left
        of the source, not of the person.

    Raises:
        ValueError: The faces differ in shape, are not `3 H W`, or have a side below 32 pixels.
    """
    if clean.shape != degraded.shape or clean.ndim != 3 or clean.shape[0] != 3 or min(clean.shape[1:]) < 32:
        raise ValueError(
            "measured_limit: expected two faces `3 H W` of one size, at least 32 pixels a side; "
            f"got {tuple(clean.shape)} and {tuple(degraded.shape)}."
        )
    frequencies, signal = radial_spectrum(clean)
    _, error = radial_spectrum(degraded - clean)
    ratio = error / signal.clamp_min(1e-12)
    lost = (ratio > _ERROR).nonzero()
    if not len(lost):
        return 0.5
    first = int(lost[0])
    if first == 0:
        return float(frequencies[0])
    # between the last good ring and the first bad one, straight in the logarithms
    low, high = math.log(max(float(ratio[first - 1]), 1e-9)), math.log(float(ratio[first]))
    part = (math.log(_ERROR) - low) / (high - low)
    return min(0.5, float(frequencies[first - 1] * (frequencies[first] / frequencies[first - 1]) ** part))


def radial_spectrum(face: Float[Tensor, "3 H W"]) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Gives the mean power of a face's luma in rings of spatial frequency.

    Args:
        face: Unit, or a difference of unit faces; at least 32 pixels a side.

    Returns:
        The middle of each ring, cycles per pixel, ascending, up to 0.5; and the mean power in it, in squared 8-bit
        levels under a Hann window, so that white noise of standard deviation `s` has the power `s²` in every ring.
    """
    levels = luma(face.detach().float().cpu() * 255)
    height, width = levels.shape
    window, rings = _window(height, width), _rings(height, width)
    mean = (levels * window).sum() / window.sum()
    power = torch.fft.rfft2((levels - mean) * window).abs().square() / window.square().sum()
    sums = torch.bincount(rings.ring, weights=power[rings.inside].double(), minlength=len(rings.numbers))
    some = rings.numbers > 0
    return rings.middles[some], sums[some] / rings.numbers[some]


class _Rings(NamedTuple):
    inside: Tensor  # which coefficients are in any ring
    ring: Tensor  # the number of the ring of each of those
    numbers: Tensor  # how many coefficients a ring has
    middles: Tensor  # cycles per pixel


@functools.lru_cache(maxsize=32)
def _rings(height: int, width: int) -> _Rings:
    radius = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]).double()
    # below two cycles a side a Hann window mixes in the mean
    lowest = 2 / min(height, width)
    count = max(1, round(_PER_OCTAVE * math.log2(0.5 / lowest)))
    edges = lowest * (0.5 / lowest) ** (torch.arange(count + 1, dtype=torch.float64) / count)
    inside = (radius >= lowest) & (radius <= 0.5)
    ring = torch.bucketize(radius[inside], edges[1:-1].contiguous(), right=True)
    return _Rings(inside, ring, torch.bincount(ring, minlength=count), (edges[:-1] * edges[1:]).sqrt())


def _window(height: int, width: int) -> Tensor:
    return torch.hann_window(height)[:, None] * torch.hann_window(width)


def luma(face: Tensor) -> Tensor:
    """Gives the luma of `3 H W`, in the face's own range."""
    return LUMA[0] * face[0] + LUMA[1] * face[1] + LUMA[2] * face[2]


def chroma(face: Tensor) -> Tensor:
    """Gives the blue and red differences of `3 H W` as JPEG has them: `2 H W`."""
    grey = luma(face)
    return torch.stack([(face[2] - grey) * 0.564, (face[0] - grey) * 0.713])


def reduced(planes: Tensor, factor: int) -> Tensor:
    """Gives planes `c H W` reduced by whole blocks; rows and columns that fill no block are left out."""
    return planes if factor == 1 else F.avg_pool2d(planes[None], factor)[0]

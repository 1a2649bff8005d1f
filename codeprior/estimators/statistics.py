"""What a face's pixels say about the damage, as one row of numbers whatever the size of the face.

Nothing is resized before it is looked at, since resizing destroys the traces. Four groups, all at native resolution:
spectra of small tiles, on the face and on its block averages (how fast detail falls off, and where noise takes over);
the rhythm of second differences (enlarging by `r` repeats every `r` pixels, Gallagher 2005); the 8×8 grid of JPEG; and
how well DCT coefficients sit on the steps of each JPEG quality (Fan and de Queiroz 2003). First step of the estimator.
"""

import functools
import math
from collections.abc import Iterator

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from codeprior.estimators.limit import chroma, luma, reduced

LEVELS = 5
"""Block averages by 1, 2, 4, 8 and 16 whose tiles are looked at."""
TILE = 32
"""Side of a tile, pixels of its level: also the smallest face that can be looked at."""

_ACROSS, _ACROSS_COLOUR = 16, 8  # tiles along a side, at most
_RINGS = TILE // 2
_SMALLEST = 1e-3  # squared 8-bit levels: what is below is rounding
_RHYTHM, _RHYTHM_BANDS = 2048, 64
_REGION = 1024  # pixels a side that rhythm and grid are searched in
_QUALITIES = (99, 97, 95, 92, 90, 85, 80, 75, 70, 60, 50, 40, 30, 20)
_BLOCKS = 512
# libjpeg's luma table, ITU-T T.81 K.1
_LUMA_STEPS = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)

SPECTRAL = LEVELS * _RINGS * 4 + 2 * _RINGS * 2
COUNT = SPECTRAL + LEVELS + _RHYTHM_BANDS + 16 + len(_QUALITIES) + 14 + 3
"""How many numbers there are."""


def face_statistics(face: Float[Tensor, "3 H W"]) -> Float[Tensor, " n"]:
    """Gives the numbers from which damage is estimated.

    Args:
        face: Unit, [0, 1], at the photograph's own resolution; both sides at least 32 pixels.

    Returns:
        `COUNT` numbers, mostly logarithms to base 2 of powers in squared 8-bit levels. Entries of levels that the face
        is too small for are 0, and their flag is 0. They have a gradient to the pixels where the face asks for one;
        those that count pixels or coefficients have none.
    """
    grey, colour = luma(face.float() * 255), chroma(face.float() * 255)
    parts, flags = [], []
    for level in range(LEVELS):
        there = min(grey.shape) // 2**level >= TILE
        flags.append(float(there))
        parts.append(
            _spectra(reduced(grey[None], 2**level), _ACROSS) if there else grey.new_zeros(4 * _RINGS)  # 4·16
        )
    for level in range(2):
        there = flags[level] > 0
        parts.append(
            _spectra(reduced(colour, 2**level), _ACROSS_COLOUR)[: 2 * _RINGS] if there else grey.new_zeros(2 * _RINGS)
        )
    middle = _middle(grey)
    parts += [grey.new_tensor(flags), _rhythm(middle), *_grid(middle)]
    clipped = ((grey <= 1) | (grey >= 254)).float().mean()
    parts.append(torch.stack([grey.mean() / 64, grey.std() / 32, clipped * 8]))
    return torch.cat(parts)


def levels_of(count: int) -> Iterator[slice]:
    """Gives where the spectra of each level stand, from the finest; the flags follow all spectra."""
    for level in range(count):
        yield slice(level * 4 * _RINGS, (level + 1) * 4 * _RINGS)


def _spectra(planes: Tensor, across: int) -> Tensor:
    """Gives the logarithm of mean, lower tenth, middle and upper tenth of tiles' power, ring by ring."""
    power = power_of_tiles(tiles(planes, across)).sum(1)  # n 32 17
    rings = rearrange(power, "n h w -> n (h w)") @ _ring_weights()
    levels = (rings + _SMALLEST).log2()  # n 16
    tenths = levels.quantile(torch.tensor([0.1, 0.5, 0.9]), dim=0)
    return torch.cat([(rings.mean(0) + _SMALLEST).log2(), tenths[0], tenths[1], tenths[2]])


def tiles(planes: Float[Tensor, "c H W"], across: int) -> Float[Tensor, "n c t t"]:
    """Gives tiles of `TILE` pixels a side, half a tile apart, or evenly spread where that would be too many.

    Args:
        planes: Of at least one tile a side.
        across: Tiles along a side, at most.
    """
    rows, columns = ((_places(side, across)[:, None] + torch.arange(TILE)).flatten() for side in planes.shape[1:])
    side_by_side = planes.index_select(1, rows).index_select(2, columns)
    return rearrange(side_by_side, "c (h y) (w x) -> (h w) c y x", y=TILE, x=TILE)


def power_of_tiles(found: Float[Tensor, "n c t t"]) -> Float[Tensor, "n c t f"]:
    """Gives the power of each wave of each tile under a Hann window; noise of variance `v` has the mean power `v`.

    Args:
        found: What `tiles` gives.
    """
    window = torch.hann_window(TILE, periodic=False)
    window = window[:, None] * window
    mean = (found * window).sum((2, 3), keepdim=True) / window.sum()
    return torch.fft.rfft2((found - mean) * window).abs().square() / window.square().sum()


def _places(side: int, most: int) -> Tensor:
    """Gives where tiles begin: half a tile apart, or spread evenly where that would be too many."""
    count = min(most, 1 + math.ceil((side - TILE) / (TILE // 2)))
    return torch.linspace(0, side - TILE, count).round().long()


@functools.cache
def ring_numbers() -> Int[Tensor, "t f"]:
    """Gives the number of the ring of each wave of a tile: its cycles a tile, rounded."""
    radius = torch.hypot(torch.fft.fftfreq(TILE)[:, None], torch.fft.rfftfreq(TILE)[None]) * TILE
    return radius.round().long()


@functools.cache
def _ring_weights() -> Tensor:
    ring = ring_numbers()
    weights = F.one_hot(ring.clamp(0, _RINGS + 1), _RINGS + 2).float()[..., 1 : _RINGS + 1]
    weights = rearrange(weights, "h w k -> (h w) k")
    return weights / weights.sum(0)


def _middle(grey: Tensor) -> Tensor:
    height, width = grey.shape
    tall, wide = min(height, _REGION), min(width, _REGION)
    top, left = (height - tall) // 2, (width - wide) // 2
    return grey[top : top + tall, left : left + wide]


def _rhythm(grey: Tensor) -> Tensor:
    """Gives how strongly second differences repeat, by frequency: peaks in logarithmic bands from 1/128 to 1/2."""
    total = grey.new_zeros(_RHYTHM_BANDS)
    for plane in (grey, grey.T):
        profile = plane.diff(n=2, dim=1).abs().mean(0).clamp_min(1e-3).log()
        # without the slow changes, which are the face's
        slow = F.avg_pool1d(F.pad(profile[None], (15, 15), mode="replicate")[None, 0][None], 31, 1)[0, 0]
        fast = (profile - slow) * torch.hann_window(len(profile), periodic=False)
        strength = torch.fft.rfft(fast, n=_RHYTHM).abs() / math.sqrt(len(profile))
        total = total + _peaks(strength).clamp_min(1e-3).log2()
    return total / 2


def _peaks(strength: Tensor) -> Tensor:
    edges = (_RHYTHM / 128) * 64.0 ** (torch.arange(_RHYTHM_BANDS + 1) / _RHYTHM_BANDS)
    low, high = edges[:-1].floor().long(), edges[1:].ceil().long()
    return torch.stack([strength[a : b + 1].amax() for a, b in zip(low.tolist(), high.tolist(), strict=True)])


def _grid(grey: Tensor) -> list[Tensor]:
    """Gives the traces of JPEG on the face as it is: strength of the grid, steps of coefficients, zeros."""
    phases, places = [], []
    for plane in (grey, grey.T):
        steps = plane.diff(dim=1).abs().mean(0)
        steps = steps[1:-1] - (steps[:-2] + steps[2:]) / 2  # a seam stands out between its neighbours
        folded = torch.stack([steps[phase::8].mean() for phase in range(8)]) / (steps.abs().mean() + 0.05)
        places.append((int(folded.argmax()) + 2) % 8)  # where a block begins
        phases.append(folded.sort(descending=True).values)
    rows, columns = places[1], places[0]
    region = grey[rows:, columns:]
    height, width = region.shape[0] // 8 * 8, region.shape[1] // 8 * 8
    blocks = rearrange(region[:height, :width], "(h y) (w x) -> (h w) y x", y=8, x=8)
    blocks = blocks[torch.linspace(0, len(blocks) - 1, min(len(blocks), _BLOCKS)).round().long()]
    transform = _dct()
    coefficients = transform @ (blocks - 128) @ transform.T  # n 8 8
    return [torch.cat(phases), _steps(coefficients), _zeros(coefficients)]


def _steps(coefficients: Tensor) -> Tensor:
    """Gives, for each quality, how closely coefficients lie around whole multiples of its steps, [-1, 1]."""
    diagonal = torch.arange(8)[:, None] + torch.arange(8)
    steps_known = (diagonal > 0) & (diagonal < 7)  # higher ones are nearly always zero
    base = torch.tensor(_LUMA_STEPS, dtype=torch.float32)[steps_known]
    coefficients = coefficients[:, steps_known]
    result = []
    for quality in _QUALITIES:
        scale = 5000 / quality if quality < 50 else 200 - 2 * quality
        steps = ((base * scale + 50) / 100).floor().clamp(1, 255)
        # zeros fit every step, and steps of one level fit whatever was rounded
        telling = ((coefficients.abs() > steps / 2) & (steps >= 2)).float()
        fit = (coefficients * (2 * math.pi) / steps).cos() * telling
        result.append(fit.sum() / (telling.sum() + 8))
    return torch.stack(result)


def _zeros(coefficients: Tensor) -> Tensor:
    """Gives the share of coefficients below half a level, by diagonal."""
    small = (coefficients.abs() < 0.5).float().mean(0)
    diagonal = torch.arange(8)[:, None] + torch.arange(8)
    return torch.stack([small[diagonal == which].mean() for which in range(1, 15)])


@functools.cache
def _dct() -> Tensor:
    place = torch.arange(8, dtype=torch.float32)
    matrix = ((place[None] + 0.5) * place[:, None] * math.pi / 8).cos() / 2
    matrix[0] /= math.sqrt(2)
    return matrix

"""Random numbers as a function of a key: the same sample draws the same values in any batch, order or worker.

One 64-bit key a sample comes from the caller's generator; everything else is SplitMix64 of that key and a counter
(Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014). A batch of eight therefore draws exactly
what eight single images would draw one after the other.

Normal numbers for noise follow from a key and a place: 64 bits give two of them, through a table of the normal
quantile. The computation consists of bit operations, table look-ups, and one multiplication and addition in single
precision, so that every device gives the same bits. The table has 64 straight pieces for each halving of the tail
probability: it differs from the normal quantile by at most 5e-5 standard deviations, and ends at 6.3 of them.
"""

import functools
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray

Keys = NDArray[np.uint64]

GOLDEN = 0x9E3779B97F4A7C15
_MASK = 0xFFFFFFFFFFFFFFFF
PIECES = 6  # binary logarithm of the pieces in an octave of the normal quantile
_FIRST = 127 << PIECES  # index of the float 1.0: its exponent and leading mantissa bits


def mix(state: Keys) -> Keys:
    """Gives the SplitMix64 finalizer of 64-bit states."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def fresh_keys(count: int, generator: torch.Generator) -> Keys:
    """Gives `count` keys from a generator, one after the other."""
    drawn = torch.randint(
        -(2**63), 2**63 - 1, (count,), generator=generator, dtype=torch.int64, device=generator.device
    )
    return drawn.cpu().numpy().view(np.uint64)


class Draws:
    """A stream of draws for each sample: every call advances all of them by one.

    Args:
        keys: One key a sample.
    """

    def __init__(self, keys: Keys):
        self._keys = mix(keys)
        self._counter = 0

    def __len__(self) -> int:
        return len(self._keys)

    def bits(self) -> Keys:
        """Gives 64 random bits a sample."""
        self._counter += 1
        return mix(self._keys + np.uint64(self._counter * GOLDEN & _MASK))

    def unit(self) -> NDArray[np.float64]:
        """Gives uniform numbers in [0, 1)."""
        return (self.bits() >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def uniform(self, low: float, high: float) -> NDArray[np.float64]:
        """Gives uniform numbers in [low, high)."""
        return np.asarray(low + (high - low) * self.unit(), np.float64)

    def choice(self, weights: Sequence[float]) -> NDArray[np.uint8]:
        """Gives indices with probabilities in proportion to `weights`."""
        edges = np.cumsum(np.asarray(weights, np.float64))
        chosen = np.searchsorted(edges, self.unit() * edges[-1], side="right")
        return np.minimum(chosen, len(edges) - 1).astype(np.uint8)

    def coin(self, chance: float) -> NDArray[np.bool_]:
        """Gives True with the given probability."""
        return self.unit() < chance

    def key(self) -> NDArray[np.int64]:
        """Gives a key a sample, from which a noise field follows."""
        return self.bits().view(np.int64)

    def rows(self, samples: NDArray[np.int64]) -> "Draws":
        """Gives the same streams, from their beginning, for some of the samples."""
        chosen = Draws.__new__(Draws)
        chosen._keys, chosen._counter = self._keys[samples], 0
        return chosen

    def child(self) -> "Draws":
        """Gives an independent stream for one part of an op, which may draw as often as it likes."""
        return Draws(self.bits())


@functools.cache
def quantile_table() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Gives value and slope of each piece of the normal quantile of the upper tail.

    Pieces are indexed by the leading bits of the float of an odd whole number m below 2³¹, which stands for the tail
    probability m / 2³².
    """
    octaves = np.arange(32)[:, None]
    edges = (2.0**octaves * (1 + np.arange((1 << PIECES) + 1) / (1 << PIECES))) * 2.0**-32
    values = _upper_quantile(np.minimum(edges, 0.5))
    return (
        values[:, :-1].astype(np.float32).ravel(),
        (values[:, 1:] - values[:, :-1]).astype(np.float32).ravel(),
    )


def normals(key: int, count: int) -> NDArray[np.float32]:
    """Gives the first `count` normal numbers of a key."""
    base = mix(np.array([key], np.int64).view(np.uint64))
    index = np.arange(1, (count + 1) // 2 + 1, dtype=np.uint64)
    bits = mix(base + index * np.uint64(GOLDEN)).view(np.uint32)[:count]
    values, slopes = quantile_table()
    odd = ((bits >> np.uint32(1)) | np.uint32(1)).astype(np.float32)
    pattern = odd.view(np.uint32)
    piece = (pattern >> np.uint32(23 - PIECES)) - np.uint32(_FIRST)
    rest = (pattern & np.uint32((1 << 23 - PIECES) - 1)).astype(np.float32) * np.float32(2.0 ** (PIECES - 23))
    upper = values[piece] + rest * slopes[piece]
    return np.where(bits & np.uint32(1), -upper, upper)


def normal_field(key: int, height: int, width: int, channels: int) -> NDArray[np.float32]:
    """Gives a field `H W c` of independent normal numbers."""
    return rearrange(normals(key, channels * height * width), "(c h w) -> h w c", c=channels, h=height)


def _upper_quantile(tail: NDArray[np.float64]) -> NDArray[np.float64]:
    inverse = NormalDist().inv_cdf
    return np.array([-inverse(probability) for probability in tail.ravel()]).reshape(tail.shape)

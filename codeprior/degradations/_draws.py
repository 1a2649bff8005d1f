"""Random numbers as a function of a key: the same sample draws the same values in any batch, order or worker.

One 64-bit key a sample comes from the caller's generator; everything else is SplitMix64 of that key and a counter
(Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014). A batch of eight therefore draws exactly
what eight single images would draw one after the other.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

Keys = NDArray[np.uint64]

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = 0xFFFFFFFFFFFFFFFF


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
        return mix(self._keys + np.uint64(self._counter * _GOLDEN & _MASK))

    def unit(self) -> NDArray[np.float64]:
        """Gives uniform numbers in [0, 1)."""
        return (self.bits() >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def uniform(self, low: float, high: float) -> NDArray[np.float64]:
        """Gives uniform numbers in [low, high)."""
        return np.asarray(low + (high - low) * self.unit(), np.float64)

    def choice(self, weights: Sequence[float]) -> NDArray[np.uint8]:
        """Gives indices with probabilities in proportion to `weights`."""
        edges = np.cumsum(np.asarray(weights, np.float64))
        found = np.searchsorted(edges, self.unit() * edges[-1], side="right")
        return np.minimum(found, len(edges) - 1).astype(np.uint8)

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

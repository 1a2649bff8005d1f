"""Which samples are in which batch: a pure function of the seed and the step, so that no state need be saved.

Position `p = step · batch + slot` of an endless stream lies in epoch `p // count`; a keyed permutation of that epoch
says which sample stands there. The permutation is a Feistel network with cycle walking (Black and Rogaway, *Ciphers
with arbitrary finite domains*, 2002), so that it takes no memory however many samples there are, and is the same on
every machine and version. A restart, another number of ranks or of loader workers changes nothing.
"""

from typing import NamedTuple

import numpy as np

_ROUNDS = 6
_GROUP = 16
_FLIP, _ORDER, _KEY = 1, 2, 3


class Slots(NamedTuple):
    """The samples of one batch; each field `(b,)`, int64 but for `flipped`, which is boolean."""

    indices: np.ndarray
    """Which sample of the source."""
    epochs: np.ndarray
    """How many times the stream has gone through all samples before."""
    keys: np.ndarray
    """Seed of everything random about this sample in this epoch, in [0, 2⁶³)."""
    flipped: np.ndarray
    """Whether a mirrored sample is asked for, each with probability one half."""


def slots(start: int, stop: int, *, count: int, seed: int, block: int = 0) -> Slots:
    """Gives the samples at positions `start` to `stop` of the stream.

    Args:
        start: First position, at least 0.
        stop: Position after the last.
        count: How many samples the source holds, at least 1.
        seed: Chooses the stream.
        block: Samples that lie together; 0 shuffles everything. Otherwise blocks are shuffled, and samples only within
            groups of 16 blocks, so that a store reads long stretches; what remains of the source comes last.

    Source:
        The rule "(seed, epoch, index)" for augmentation is the one that survives a restart, see
        `docs/guides/training.md`.
    """
    positions = np.arange(start, stop, dtype=np.int64)
    epochs, places = np.divmod(positions, count)
    indices = np.empty_like(places)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        key = _mix(np.uint64(seed % 2**64), np.uint64(epoch), _ORDER)
        indices[here] = _permute(places[here], count, key) if not block else _grouped(places[here], count, key, block)
    keys = _mix(_mix(np.uint64(seed % 2**64), epochs.astype(np.uint64), _KEY), indices.astype(np.uint64), _KEY)
    flipped = (_mix(keys, np.uint64(0), _FLIP) >> np.uint64(63)).astype(bool)
    return Slots(indices, epochs, (keys >> np.uint64(1)).astype(np.int64), flipped)


def _permute(places: np.ndarray, count: int, key: np.ndarray | np.uint64) -> np.ndarray:
    half = max(1, (max(count - 1, 1).bit_length() + 1) // 2)
    mask, shift = np.uint64(2**half - 1), np.uint64(half)

    def once(value: np.ndarray) -> np.ndarray:
        left, right = value >> shift, value & mask
        for number in range(_ROUNDS):
            left, right = right, left ^ (_mix(key, right, number) & mask)
        return (left << shift) | right

    value = once(places.astype(np.uint64))
    while (outside := value >= count).any():
        value[outside] = once(value[outside])
    return value.astype(np.int64)


def _grouped(places: np.ndarray, count: int, key: np.ndarray | np.uint64, block: int) -> np.ndarray:
    blocks, window = count // block, block * _GROUP
    shuffled = places.copy()
    for group in np.unique(places // window):
        here = places // window == group
        size = min(window, int(count - group * window))
        shuffled[here] = group * window + _permute(places[here] - group * window, size, _mix(key, np.uint64(group), 4))
    # the last group also shuffles the samples that do not fill a block
    whole = shuffled < blocks * block
    shuffled[whole] = (
        _permute(shuffled[whole] // block, blocks, _mix(key, np.uint64(0), 5)) * block + shuffled[whole] % block
    )
    return shuffled


def _mix(first: np.ndarray | np.uint64, second: np.ndarray | np.uint64, tweak: int) -> np.ndarray:
    # splitmix64's finaliser (Steele, Lea and Flood, 2014), applied twice; wrapping is the arithmetic meant
    with np.errstate(over="ignore"):
        value = np.asarray(first, np.uint64) + np.uint64((0x9E3779B97F4A7C15 * (tweak + 1)) % 2**64)
        return _finish(_finish(value) ^ np.asarray(second, np.uint64))


def _finish(value: np.ndarray) -> np.ndarray:
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))

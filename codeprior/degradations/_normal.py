"""Normal numbers from a key and a place: 64 bits of SplitMix64 give two, through a table of the normal quantile.

Bits, table look-ups and one multiplication and addition in single precision are all there is, so that every device
gives the same bits. The table has 64 straight pieces to each halving of the tail probability: it departs from the
normal quantile by at most 5e-5 standard deviations, and ends at 6.3 of them.
"""

import functools

import numpy as np
from einops import rearrange
from numpy.typing import NDArray

from ._draws import _GOLDEN, mix

PIECES = 6  # binary logarithm of the pieces in an octave
_FIRST = 127 << PIECES  # index of the float 1.0: its exponent and leading mantissa bits


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


def _upper_quantile(tail: NDArray[np.float64]) -> NDArray[np.float64]:
    from statistics import NormalDist

    inverse = NormalDist().inv_cdf
    return np.array([-inverse(probability) for probability in tail.ravel()]).reshape(tail.shape)


def normals(key: int, count: int) -> NDArray[np.float32]:
    """Gives the first `count` normal numbers of a key."""
    base = mix(np.array([key], np.int64).view(np.uint64))
    index = np.arange(1, (count + 1) // 2 + 1, dtype=np.uint64)
    bits = mix(base + index * np.uint64(_GOLDEN)).view(np.uint32)[:count]
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

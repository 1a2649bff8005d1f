"""How sure a mean is: standard errors, bootstrap intervals, and comparisons of two methods image by image.

Several pictures of one person are not independent, so intervals can resample people instead of pictures.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray


class Summary(NamedTuple):
    """A mean and how sure it is.

    Attributes:
        mean: Over the images that have a value.
        standard_error: Of the mean, with n − 1, images taken as independent; NaN below two images.
        low: Lower end of the bootstrap interval.
        high: Upper end of it.
        count: Images that have a value.
    """

    mean: float
    standard_error: float
    low: float
    high: float
    count: int


class Comparison(NamedTuple):
    """Two methods on the same images.

    Attributes:
        difference: Mean of first − second.
        low: Lower end of the bootstrap interval of the difference.
        high: Upper end of it.
        wins: Share of images on which the first is better; ties count half.
        count: Images that both have.
    """

    difference: float
    low: float
    high: float
    wins: float
    count: int


def summarise(
    values: ArrayLike,
    generator: torch.Generator,
    *,
    groups: Sequence[str] | None = None,
    level: float = 0.95,
    resamples: int = 2000,
) -> Summary:
    """Gives the mean of one value per image, with its percentile-bootstrap interval.

    Args:
        values: One per image; NaN where the image has none.
        generator: Randomness of the resampling.
        groups: Which images belong together, such as the person; groups are then resampled whole.
        level: Probability of the interval, in (0, 1).
        resamples: Bootstrap samples.

    Raises:
        ValueError: No image has a value, or the groups are not one per image.
    """
    data = np.asarray(values, dtype=np.float64)
    kept = ~np.isnan(data)
    if not kept.any():
        raise ValueError("summarise: expected a value for at least one image, got none.")
    named = _kept_groups("summarise", groups, kept)
    data = data[kept]
    error = float(data.std(ddof=1) / np.sqrt(len(data))) if len(data) > 1 and np.isfinite(data).all() else float("nan")
    low, high = _interval(data, named, generator, level, resamples)
    return Summary(float(data.mean()), error, low, high, len(data))


def compare(
    first: ArrayLike,
    second: ArrayLike,
    generator: torch.Generator,
    *,
    higher_is_better: bool,
    groups: Sequence[str] | None = None,
    level: float = 0.95,
    resamples: int = 2000,
) -> Comparison:
    """Gives how much better the first method is, image by image.

    Args:
        first: One value per image; NaN where there is none.
        second: The other method's, same images in the same order.
        generator: Randomness of the resampling.
        higher_is_better: Whether the larger value wins.
        groups: Which images belong together; see `summarise`.
        level: Probability of the interval, in (0, 1).
        resamples: Bootstrap samples.

    Raises:
        ValueError: No image has both values, or the lengths differ.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(f"compare: expected values of the same images, got {len(first)} and {len(second)}.")
    kept = ~(np.isnan(first) | np.isnan(second))
    if not kept.any():
        raise ValueError("compare: expected at least one image with both values, got none.")
    named = _kept_groups("compare", groups, kept)
    first, second = first[kept], second[kept]
    with np.errstate(invalid="ignore"):
        # two infinite PSNRs are equal
        difference = np.where(first == second, 0.0, first - second)
    better = difference > 0 if higher_is_better else difference < 0
    low, high = _interval(difference, named, generator, level, resamples)
    wins = float(better.mean() + (difference == 0).mean() / 2)
    return Comparison(float(difference.mean()), low, high, wins, len(difference))


def _kept_groups(who: str, groups: Sequence[str] | None, kept: NDArray[np.bool_]) -> NDArray[np.int64]:
    if groups is None:
        return np.arange(int(kept.sum()))
    if len(groups) != len(kept):
        raise ValueError(f"{who}: expected one group per image, got {len(groups)} for {len(kept)} images.")
    return np.unique(np.asarray(groups)[kept], return_inverse=True)[1]


def _interval(
    data: NDArray[np.float64], groups: NDArray[np.int64], generator: torch.Generator, level: float, resamples: int
) -> tuple[float, float]:
    if not np.isfinite(data).all():
        return float(data.min()), float(data.max())
    count = int(groups.max()) + 1
    totals, sizes = np.bincount(groups, data, count), np.bincount(groups, minlength=count)
    drawn = torch.randint(count, (resamples, count), generator=generator).numpy()
    means = totals[drawn].sum(1) / sizes[drawn].sum(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)

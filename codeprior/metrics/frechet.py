"""Distances between sets of pictures: FID and KID, from the features of an injected network.

FID compares the mean and covariance of features, and is biased upward on few images: under 2,000 it is refused unless
forced. KID has no such bias and comes with small sets. Figures can be compared only where network, resizing and
reference are the same.
"""

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor

from codeprior import files
from codeprior.checkpoints import read_arrays
from codeprior.metrics.provenance import checked

FEWEST = 2000
"""Images under which `fid` refuses; the covariance of 2,048 features has no full rank there."""


class FeatureStatistics(NamedTuple):
    """What FID keeps of a set of pictures.

    Attributes:
        mean: `d`, float64.
        covariance: `d d`, float64, unbiased.
        count: Pictures; 0 where a file does not say.
    """

    mean: Float[Tensor, " d"]
    covariance: Float[Tensor, "d d"]
    count: int


def feature_statistics(features: Float[Tensor, "n d"]) -> FeatureStatistics:
    """Gives mean and covariance of features.

    Args:
        features: One row per picture, at least two.

    Raises:
        ValueError: There are fewer than two rows.
    """
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(
            f"feature_statistics: expected features n d of at least two pictures, got {tuple(features.shape)}."
        )
    features = features.double()
    return FeatureStatistics(features.mean(0), torch.cov(features.T).reshape(features.shape[1], -1), len(features))


def frechet_distance(first: FeatureStatistics, second: FeatureStatistics) -> float:
    """Gives `|μ₁ − μ₂|² + tr(C₁ + C₂ − 2 (C₁ C₂)^½)`.

    Args:
        first: Mean and covariance of one set.
        second: Of the other.

    Returns:
        The squared Fréchet distance of the two Gaussians, at least 0 but for rounding.

    Raises:
        ValueError: The features have another length.

    Note:
        The trace of the root is taken as the sum of the roots of the eigenvalues of `C₁^½ C₂ C₁^½`, which is symmetric;
        singular covariances need no offset.
    """
    if first.mean.shape != second.mean.shape:
        raise ValueError(
            f"frechet_distance: expected features of one length, got {len(first.mean)} and {len(second.mean)}; "
            "both sets need the same network."
        )
    values, vectors = torch.linalg.eigh(first.covariance)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    product = root @ second.covariance @ root
    shared = torch.linalg.eigvalsh((product + product.T) / 2).clamp(min=0).sqrt().sum()
    trace = first.covariance.trace() + second.covariance.trace() - 2 * shared
    return float((first.mean - second.mean).square().sum() + trace)


def fid(features: Float[Tensor, "n d"], reference: FeatureStatistics, *, force: bool = False) -> float:
    """Gives the Fréchet distance of pictures to a reference set.

    Args:
        features: One row per picture.
        reference: Statistics of the reference set, such as FFHQ's.
        force: Whether to compute on fewer than 2,000 pictures, where the figure says little.

    Raises:
        ValueError: There are fewer than 2,000 pictures and `force` is not set, or the features have another length.
    """
    if len(features) < FEWEST and not force:
        raise ValueError(
            f"fid: expected at least {FEWEST} pictures, got {len(features)}; on fewer it is biased and says little. "
            "Use kid, or force=True and state the count."
        )
    return frechet_distance(feature_statistics(features), reference)


def kid(first: Float[Tensor, "n d"], second: Float[Tensor, "m d"]) -> float:
    """Gives the kernel distance of two sets of features, unbiased: 0 on average for two samples of one set.

    Args:
        first: One row per picture, at least two.
        second: The other set's.

    Returns:
        The unbiased squared maximum mean discrepancy with the kernel `(x · y / d + 1)³`; it may be negative.

    Raises:
        ValueError: A set has fewer than two pictures, or the features have another length.

    Source: Bińkowski et al. 2018; all pictures at once instead of means over random subsets.
    """
    if min(len(first), len(second)) < 2 or first.shape[1:] != second.shape[1:]:
        raise ValueError(
            f"kid: expected features n d and m d of at least two pictures each, got {tuple(first.shape)} and "
            f"{tuple(second.shape)}."
        )
    first, second = first.double(), second.double()
    same = [(kernel.sum() - kernel.trace()) / (len(kernel) * (len(kernel) - 1))
            for kernel in (_kernel(first, first), _kernel(second, second))]  # fmt: skip
    return float(same[0] + same[1] - 2 * _kernel(first, second).mean())


def read_statistics(path: str | Path, *, sha256: str = "") -> FeatureStatistics:
    """Reads reference statistics: BasicSR's `.pth` (`mean`, `cov`) or `.npz` (`mu`, `sigma`) as pytorch-fid writes.

    Args:
        path: The file, such as `inception_FFHQ_512-f7b384ab.pth`.
        sha256: Beginning of the checksum that the file must have; empty accepts any.

    Raises:
        WeightsMissing: There is no such file.
        ValueError: Its checksum differs, or it holds something else.
    """
    path = checked(path, sha256, who="read_statistics")
    try:
        content = read_arrays(path)
        mean, covariance = (
            torch.as_tensor(next(content[key] for key in keys if key in content)).double()
            for keys in (("mean", "mu"), ("cov", "sigma"))
        )
    except (StopIteration, RuntimeError, OSError, ValueError, TypeError) as error:
        raise ValueError(f"read_statistics: {path} holds no mean and covariance of features.") from error
    if covariance.shape != (mean.numel(), mean.numel()):
        raise ValueError(
            f"read_statistics: expected d and d d, got {tuple(mean.shape)} and {tuple(covariance.shape)} in {path}."
        )
    return FeatureStatistics(mean.flatten(), covariance, int(content.get("count", 0)))


def write_statistics(path: str | Path, statistics: FeatureStatistics, *, overwrite: bool = False) -> None:
    """Writes statistics as `.npz` with `mu`, `sigma` and `count`.

    Args:
        path: Where to, ending in `.npz`.
        statistics: What to write.
        overwrite: Replace what has the name.

    Raises:
        FileExistsError: Something has the name and `overwrite` is off.
    """
    content = BytesIO()
    np.savez(content, mu=statistics.mean.numpy(), sigma=statistics.covariance.numpy(), count=statistics.count)
    files.write(path, content.getvalue(), overwrite=overwrite)


def all_features(batches: Iterable[Tensor]) -> Float[Tensor, "n d"]:
    """Gives the feature rows of all batches, one below the other.

    Args:
        batches: Feature rows `b d` or maps `b d h w`, whose mean over places is taken.
    """
    return torch.cat([reduce(batch, "b d h w -> b d", "mean") if batch.ndim == 4 else batch for batch in batches])


def _kernel(first: Tensor, second: Tensor) -> Tensor:
    return (first @ second.T / first.shape[1] + 1) ** 3

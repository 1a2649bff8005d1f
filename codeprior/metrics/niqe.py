"""NIQE: how unlike natural photographs a picture's local statistics are, without a truth to compare with.

Each 96 px block gives 36 numbers: the shapes of generalised Gaussians fitted to the locally normalised luma and to the
products of neighbours, at two scales. The figure is the distance of their mean and covariance from those of pristine
photographs, which ship here as the original authors published them.
"""

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from codeprior.metrics.accepted import unit_images
from codeprior.metrics.provenance import Provenance, checked, checksum
from codeprior.shapes import Image

_BLOCK = 96
_LUMA = (65.481, 128.553, 24.966)  # BT.601, unit RGB to 16 … 235
_FILE = Path(__file__).with_name("niqe_pristine.npz")
_SHA256 = "2a7c182a68c9e7f1"
_NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))


class Pristine(NamedTuple):
    """What pristine photographs look like.

    Attributes:
        mean: 36 numbers.
        covariance: `36 36`.
        window: `7 7`, the Gaussian of σ 7/6 for local means, bit for bit as it was published.
        record: Where they come from.
    """

    mean: Tensor
    covariance: Tensor
    window: Tensor
    record: Provenance


def pristine(path: str | Path | None = None, *, sha256: str = _SHA256) -> Pristine:
    """Gives the statistics of pristine photographs.

    Args:
        path: An `.npz` with `mu_pris_param`, `cov_pris_param` and `gaussian_window`; by default the one inside the
            package.
        sha256: Beginning of the checksum that the file must have; empty accepts any.

    Raises:
        WeightsMissing: There is no such file.
        ValueError: Its checksum differs.

    Source: Mittal et al. 2013, the released parameters, in the file that BasicSR ships (Apache-2.0).
    """
    path = checked(path or _FILE, sha256, who="NIQE")
    with np.load(path, allow_pickle=False) as arrays:
        mean, covariance, window = (
            torch.from_numpy(arrays[key].copy()) for key in ("mu_pris_param", "cov_pris_param", "gaussian_window")
        )
    record = Provenance(
        network="36 natural-scene statistics, 96 px blocks", weights=path.name, sha256=checksum(path), colours="luma"
    )
    return Pristine(rearrange(mean, "1 d -> d"), covariance, window, record)


def niqe(
    images: Image, *, statistics: Pristine | None = None, rounding: bool = True, block: int = _BLOCK
) -> Float[Tensor, " b"]:
    """Gives the naturalness distance of each image; lower is more natural.

    Args:
        images: RGB, unit, [0, 1], or uint8; at least two blocks large; what exceeds whole blocks is cropped.
        statistics: Of pristine photographs; by default those inside the package.
        rounding: Whether luma is rounded to 8-bit levels, as BasicSR does.
        block: Side of the blocks, pixels, even; another than 96 gives figures of another kind.

    Returns:
        Distances, float64, one per image; NaN where an image is constant.

    Raises:
        TypeError: They are no tensors, or hold integers other than uint8.
        ValueError: The images hold fewer than two blocks, the block is odd, or a picture holds a NaN or values outside
            [0, 1].

    Source: Mittal et al. 2013, as BasicSR and VQFR compute it, without border cropping.
    """
    if block < 2 or block % 2:
        raise ValueError(f"niqe: expected an even block of at least 2 pixels, got {block}.")
    images = unit_images("niqe", images)
    rows, columns = (side // block for side in images.shape[-2:])
    if rows * columns < 2:
        raise ValueError(
            f"niqe: expected images of at least two blocks of {block}×{block} pixels, got "
            f"{images.shape[-2]}×{images.shape[-1]}; a covariance needs two."
        )
    statistics = pristine() if statistics is None else statistics
    weights = torch.tensor(_LUMA, dtype=torch.float64)[:, None, None]
    luma = (images.detach().double().cpu() * weights).sum(1) + 16
    luma = (luma.round() if rounding else luma)[:, : rows * block, : columns * block]
    return torch.stack([_distance(one, block, statistics) for one in luma])


def _distance(luma: Tensor, block: int, statistics: Pristine) -> Tensor:
    features = []
    for scale in (1, 2):
        blocks = _blocks(_normalised(luma, statistics.window), block // scale)
        parts = [_symmetric(blocks)]
        # neighbours are taken around the block's own edge, as in the reference
        parts += [_asymmetric(blocks * blocks.roll(shift, dims=(1, 2))) for shift in _NEIGHBOURS]
        features.append(torch.cat(parts, dim=1))
        if scale == 1:
            luma = _halved(luma / 255) * 255
    table = torch.cat(features, dim=1)  # blocks 36
    whole = table[~table.isnan().any(1)]
    if len(whole) < 2:
        return torch.tensor(torch.nan, dtype=torch.float64)
    # the mean leaves out single NaN, the covariance whole blocks that hold one
    difference = statistics.mean - table.nanmean(0)
    inverse = torch.linalg.pinv((statistics.covariance + torch.cov(whole.T)) / 2)
    return (difference @ inverse @ difference).clamp(min=0).sqrt()


def _normalised(luma: Tensor, window: Tensor) -> Tensor:
    def smooth(values: Tensor) -> Tensor:
        padded = F.pad(values[None, None], (3, 3, 3, 3), mode="replicate")
        # rounded to float32, as the reference: where a picture is flat the difference to the mean is then 0, and not
        # a rounding error whose sign decides which side of the Gaussian the pixel counts for
        return F.conv2d(padded, window[None, None])[0, 0].float()

    mean = smooth(luma)
    deviation = (smooth(luma.float().square().double()) - mean.square()).abs().sqrt()
    return ((luma.float() - mean) / (deviation + 1)).double()


def _blocks(values: Tensor, side: int) -> Tensor:
    return rearrange(values, "(rows h) (columns w) -> (rows columns) h w", h=side, w=side)


class _Fit(NamedTuple):
    shape: Tensor
    left: Tensor
    right: Tensor


def _fit(blocks: Tensor) -> _Fit:
    """Fits an asymmetric generalised Gaussian to each block, by moments."""
    shapes, ratios = _ratios()
    flat = rearrange(blocks, "n h w -> n (h w)")
    left, right = (_deviation(flat, side) for side in (flat < 0, flat > 0))
    balance = left / right
    ratio = flat.abs().mean(1).square() / flat.square().mean(1)
    ratio = ratio * (balance**3 + 1) * (balance + 1) / (balance.square() + 1).square()
    # a block without one of the signs has no ratio; like the reference it then takes the first shape, 0.2
    shape = shapes[(ratios - ratio[:, None]).square().argmin(1)]
    scale = torch.exp((torch.lgamma(1 / shape) - torch.lgamma(3 / shape)) / 2)
    return _Fit(shape, left * scale, right * scale)


def _deviation(flat: Tensor, side: Tensor) -> Tensor:
    return (torch.where(side, flat, 0).square().sum(1) / side.sum(1)).sqrt()


@lru_cache(maxsize=1)
def _ratios() -> tuple[Tensor, Tensor]:
    shapes = 0.2 + 0.001 * torch.arange(9801, dtype=torch.float64)
    reciprocal = 1 / shapes
    return shapes, torch.exp(2 * torch.lgamma(2 * reciprocal) - torch.lgamma(reciprocal) - torch.lgamma(3 * reciprocal))


def _symmetric(blocks: Tensor) -> Tensor:
    fit = _fit(blocks)
    return torch.stack([fit.shape, (fit.left + fit.right) / 2], dim=1)


def _asymmetric(products: Tensor) -> Tensor:
    fit = _fit(products)
    mean = (fit.right - fit.left) * torch.exp(torch.lgamma(2 / fit.shape) - torch.lgamma(1 / fit.shape))
    return torch.stack([fit.shape, mean, fit.left, fit.right], dim=1)


def _halved(luma: Tensor) -> Tensor:
    """Gives the image at half size by MATLAB's antialiased bicubic rule."""
    return _halving(luma.shape[0]) @ luma @ _halving(luma.shape[1]).T


def _halving(side: int) -> Tensor:
    centres = 2 * torch.arange(side // 2, dtype=torch.float64) + 0.5
    taps = centres.floor()[:, None] + torch.arange(-4, 6, dtype=torch.float64)
    distance = ((centres[:, None] - taps) / 2).abs()
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    weights = torch.where(distance <= 1, near, torch.where(distance <= 2, far, 0.0))
    weights = weights / weights.sum(1, keepdim=True)
    places = taps.long() % (2 * side)  # mirrored with the edge pixel repeated
    places = torch.where(places < side, places, 2 * side - 1 - places)
    return torch.zeros(side // 2, side, dtype=torch.float64).scatter_add_(1, places, weights)

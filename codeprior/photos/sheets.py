"""Pictures about a restoration: before and after side by side, and where the model guessed."""

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from codeprior.images import from_levels, to_array
from codeprior.photos.faces import Crop, paste
from codeprior.photos.restoration import Finished, Prepared

_HEIGHT = 640  # of the photographs on a sheet, pixels
_FACE = 256
_GAP = 8
# dark blue, violet, red, orange, pale yellow: brightness grows with the value, so that it reads without colour too
_RAMP = torch.tensor(
    [(0.05, 0.03, 0.25), (0.42, 0.05, 0.45), (0.83, 0.25, 0.25), (0.98, 0.60, 0.15), (0.99, 0.99, 0.75)]
)


def comparison(prepared: Prepared, done: Finished) -> UInt8[np.ndarray, "H W 3"]:
    """Gives a sheet: the photograph before and after, and a row with each face before and after.

    Args:
        prepared: What went to the network.
        done: The result.
    """
    rows = [row([_fit(from_levels(prepared.pixels), _HEIGHT), _fit(from_levels(done.pixels), _HEIGHT)])]
    pairs = [
        row([_fit(before, _FACE), _fit(after, _FACE)]) for before, after in zip(done.before, done.after, strict=True)
    ]
    return to_array(column(rows + pairs))


def uncertainty_map(prepared: Prepared, done: Finished) -> UInt8[np.ndarray, "H W 3"]:
    """Gives the photograph in grey with the model's doubt over each restored face: dark is sure, pale is guessed.

    Args:
        prepared: What went to the network.
        done: The result, with `uncertainty`.

    Raises:
        ValueError: The uncertainty was not asked for.
    """
    if done.uncertainty is None and prepared.asked:
        raise ValueError("uncertainty_map: the restoration holds no uncertainty; ask the restorer for it.")
    grey = done.pixels if done.pixels.shape == prepared.pixels.shape else to_array(done.after[0])
    grey = np.repeat(grey.mean(2, keepdims=True).round().astype(np.uint8), 3, axis=2)
    if done.uncertainty is None:
        return grey  # every face was left as it is: nothing was guessed
    asked = [prepared.crops[at] for at in prepared.asked]
    size = prepared.crops[0].image.shape[-1]
    doubt = F.interpolate(done.uncertainty[:, None].float(), size=(size, size), mode="bilinear")[:, 0].clamp(0, 1)
    if not done.found:
        return to_array((0.35 * from_levels(grey) + 0.65 * _fit(heat(doubt[0]), grey.shape[0])).clamp(0, 1))
    crops = [
        Crop(0.35 * crop.image.mean(0) + 0.65 * heat(one), crop.matrix) for one, crop in zip(doubt, asked, strict=True)
    ]
    return paste(grey, crops)


def heat(values: Float[Tensor, "h w"]) -> Float[Tensor, "3 h w"]:
    """Gives colours for values, brighter where they are larger.

    Args:
        values: [0, 1].

    Returns:
        Unit.
    """
    place = values.clamp(0, 1) * (len(_RAMP) - 1)
    below = place.floor().long().clamp(max=len(_RAMP) - 2)
    share = (place - below)[..., None]
    return rearrange(_RAMP[below] * (1 - share) + _RAMP[below + 1] * share, "h w c -> c h w")


def row(images: list[Float[Tensor, "3 h w"]]) -> Float[Tensor, "3 h W"]:
    """Gives images of one height side by side, with white gaps.

    Args:
        images: Unit.
    """
    gap = torch.ones(3, images[0].shape[1], _GAP)
    parts = [part for image in images for part in (image, gap)]
    return torch.cat(parts[:-1], dim=2)


def column(images: list[Float[Tensor, "3 h w"]]) -> Float[Tensor, "3 H w"]:
    """Gives images one above the other, filled with white to one width, with white gaps.

    Args:
        images: Unit.
    """
    width = max(image.shape[2] for image in images)
    wide = [F.pad(image, (0, width - image.shape[2]), value=1.0) for image in images]
    gap = torch.ones(3, _GAP, width)
    return torch.cat([part for image in wide for part in (image, gap)][:-1], dim=1)


def _fit(image: Float[Tensor, "3 h w"], height: int) -> Float[Tensor, "3 height w"]:
    width = max(1, round(image.shape[2] * height / image.shape[1]))
    return F.interpolate(image[None], size=(height, width), mode="bicubic", antialias=True)[0].clamp(0, 1)

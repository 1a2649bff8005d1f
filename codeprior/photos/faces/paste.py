"""Faces out of a photograph and back: aligned crops, soft masks, paste-back without a seam.

A face is cut by the similarity that brings its five points onto the FFHQ template, restored, and sampled back at the
photograph's own pixels under a mask that fades to nothing before the crop ends.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8, UInt16
from torch import Tensor
from torch.nn import functional as F

from codeprior.photos.faces.geometry import invert, resample, similarity, template, transform
from codeprior.shapes import Image

_SEAM = 0.1  # width of the fade between two faces that touch, half sides of a crop


class Crop(NamedTuple):
    """An aligned face and where it came from.

    Attributes:
        image: `3 size size`, unit, [0, 1].
        matrix: Takes (x, y) of the crop to (x, y) of the photograph, pixels.
    """

    image: Float[Tensor, "3 size size"]
    matrix: Float[np.ndarray, "2 3"]


class Window(NamedTuple):
    """Where a face is pasted, at the photograph's own pixels.

    Attributes:
        rows: Of the photograph.
        columns: Of the photograph.
        below: The photograph there, unit.
        colours: What is pasted, unit.
        weights: Its weights, [0, 1].
    """

    rows: slice
    columns: slice
    below: Float[Tensor, "3 h w"]
    colours: Float[Tensor, "3 h w"]
    weights: Float[Tensor, "1 h w"]


def align(photo: UInt8[np.ndarray, "H W 3"], points: Float[np.ndarray, "5 2"], *, size: int = 512) -> Crop:
    """Cuts a face out of a photograph, upright and in the place that face models expect.

    Args:
        photo: RGB, 8-bit levels.
        points: Left eye, right eye, nose, left and right corner of the mouth as (x, y), pixels; left as seen.
        size: Side of the crop, pixels.

    Returns:
        The crop, antialiased where the face is larger than it, mirrored where the photograph ends.

    Raises:
        ValueError: The points are not five finite, different points.
    """
    matrix = alignment(points, size=size)
    return Crop(resample(_planes(photo), matrix, height=size, width=size).clamp(0, 1), matrix)


def alignment(points: Float[np.ndarray, "5 2"], *, size: int) -> Float[np.ndarray, "2 3"]:
    """Gives the matrix that takes (x, y) of an aligned crop to (x, y) of the photograph.

    Args:
        points: As for `align`.
        size: Side of the crop, pixels.

    Raises:
        ValueError: The points are not five finite, different points.
    """
    points = np.asarray(points, np.float64)
    if points.shape != (5, 2):
        raise ValueError(f"align: expected five points (x, y), got an array of shape {points.shape}.")
    return similarity(template(size), points)


def paste(
    photo: UInt8[np.ndarray, "H W 3"] | UInt16[np.ndarray, "H W 3"],
    faces: Sequence[Crop],
    *,
    beside: Sequence[Crop] = (),
    mask: Callable[[Float[Tensor, "3 size size"]], Float[Tensor, "size size"]] | None = None,
    added: Callable[[int, Window], Float[Tensor, "3 h w"] | None] | None = None,
) -> UInt8[np.ndarray, "H W 3"] | UInt16[np.ndarray, "H W 3"]:
    """Gives the photograph with restored faces in their places.

    Args:
        photo: RGB, 8-bit or 16-bit levels; stays as it is.
        faces: Restored crops with the matrix that `align` gave; any size, scaled to the place they came from.
        beside: Crops that are not pasted; what is nearer to them than to a pasted face stays as it is.
        mask: What gives each crop its weights in [0, 1], such as a face parser; `soft_mask` where None. It is always
            multiplied with `soft_mask`, so that no mask can leave a square.
        added: What is asked with the number of each face and its window, and gives what is added to the pasted pixels,
            unit, such as grain; 0 where nothing is pasted.

    Returns:
        A new photograph of the same size and depth. Pixels outside every mask are untouched, and where crops overlap
        each pixel belongs to the face that is nearer: a neighbour's crop shows that face too, restored with less care.
    """
    pasted, most = photo.copy(), float(np.iinfo(photo.dtype).max)
    for number, (image, matrix) in enumerate(faces):
        size = image.shape[-1]
        weights = soft_mask(size)
        if mask is not None:
            weights = weights * mask(image).clamp(0, 1)
        corners = _corners(image, matrix)
        left, top = np.clip(np.floor(corners.min(0)), 0, (photo.shape[1], photo.shape[0])).astype(int)
        right, bottom = np.clip(np.ceil(corners.max(0)) + 1, 0, (photo.shape[1], photo.shape[0])).astype(int)
        if right <= left or bottom <= top:
            continue
        place = invert(matrix) @ np.array([[1, 0, left], [0, 1, top], [0, 0, 1]])
        window = {"height": int(bottom - top), "width": int(right - left)}
        colours = resample(image.float(), place, padding="border", **window)
        weights = resample(weights[None], place, padding="zeros", **window).clamp(0, 1)
        for other, (neighbour, its_matrix) in enumerate([*faces, *beside]):
            reach = _corners(neighbour, its_matrix)
            if other != number and (reach.max(0) >= corners.min(0)).all() and (corners.max(0) >= reach.min(0)).all():
                weights = weights * _share(faces[number], Crop(neighbour, its_matrix), left=left, top=top, **window)
        below = _levels(photo[top:bottom, left:right])
        # shares of overlapping faces sum to one: what each adds is counted from the photograph, not from the last face
        colours = colours.clamp(0, 1)
        mixed = _levels(pasted[top:bottom, left:right]) + weights * (colours * most - below)
        if added is not None:
            window_of_face = Window(slice(top, bottom), slice(left, right), below / most, colours, weights)
            addition = added(number, window_of_face)
            mixed = mixed if addition is None else mixed + addition * most
        mixed = rearrange(mixed.round().clamp(0, most), "c h w -> h w c").numpy()
        pasted[top:bottom, left:right] = mixed.astype(photo.dtype)
    return pasted


def _corners(image: Float[Tensor, "3 size size"], matrix: Float[np.ndarray, "2 3"]) -> Float[np.ndarray, "4 2"]:
    low, high = -0.5, image.shape[-1] - 0.5
    return transform(np.array([(low, low), (high, low), (low, high), (high, high)]), matrix)


def _share(crop: Crop, neighbour: Crop, *, left: int, top: int, height: int, width: int) -> Float[Tensor, "1 H W"]:
    """Gives the share of a crop in pixels that a neighbour's crop reaches too: a place belongs to the nearer face.

    Distances are from the middle of each crop, in half sides of it, so that a small face before a large one keeps its
    place. Where both are equally far, one fades into the other over `_SEAM`.
    """
    x = torch.arange(left, left + width, dtype=torch.float32)
    y = torch.arange(top, top + height, dtype=torch.float32)[:, None]
    distances = []
    for image, matrix in (crop, neighbour):
        back, middle = invert(matrix), (image.shape[-1] - 1) / 2
        across, down = ((float(a) * x + float(b) * y + float(c) - middle) / (middle + 0.5) for a, b, c in back)
        distances.append(torch.hypot(across, down))
    ramp = ((distances[1] - distances[0]) / _SEAM + 0.5).clamp(0, 1)
    return (ramp * ramp * (3 - 2 * ramp))[None]


def soft_mask(size: int, *, margin: float = 0.03, feather: float = 0.14) -> Float[Tensor, "size size"]:
    """Gives weights that are one over the face and fade smoothly to zero before the crop's edge, round at the corners.

    Args:
        size: Side of the crop, pixels.
        margin: Width of the zero border as a share of the side.
        feather: Width of the fade as a share of the side.

    Raises:
        ValueError: Margin and feather leave no middle.
    """
    if margin < 0 or feather <= 0 or margin + feather > 0.5:
        raise ValueError(f"soft_mask: margin {margin} and feather {feather} must leave a middle; keep their sum ≤ 0.5.")
    position = (torch.arange(size) + 0.5) / size
    inside = torch.minimum(position, 1 - position)  # distance to the nearest edge, shares of the side
    missing = ((margin + feather - inside) / feather).clamp(min=0)
    ramp = (1 - torch.hypot(missing[:, None], missing[None, :])).clamp(0, 1)
    return ramp * ramp * (3 - 2 * ramp)


def match_colour(restored: Image, reference: Image) -> Image:
    """Gives restored faces the coarse colours of what they replace: `restored + coarse(reference) - coarse(restored)`.

    Coarse is the mean over each cell of an 8×8 grid, bilinear between them. Damage hardly changes these colours, but a
    codebook often does.

    Args:
        restored: `b 3 H W`, unit.
        reference: The degraded crops, `b 3 H W`, unit.

    Returns:
        `b 3 H W`, unit, clamped.
    """

    def coarse(image: Image) -> Image:
        return F.interpolate(F.adaptive_avg_pool2d(image, 8), size=image.shape[-2:], mode="bilinear")

    return (restored + coarse(reference) - coarse(restored)).clamp(0, 1)


def _levels(photo: np.ndarray) -> Float[Tensor, "3 H W"]:
    # PyTorch cannot compute with 16-bit levels
    return rearrange(torch.from_numpy(photo.astype(np.float32)), "h w c -> c h w")


def _planes(photo: UInt8[np.ndarray, "H W 3"]) -> UInt8[Tensor, "3 H W"]:
    photo = np.ascontiguousarray(photo)
    return rearrange(torch.from_numpy(photo if photo.flags.writeable else photo.copy()), "h w c -> c h w")

"""The picture types of Python, PIL images, arrays and tensors, as unit tensors and back."""

from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import UInt8
from PIL import Image as Pictures
from PIL import ImageOps
from torch import Tensor

from codeprior.images import from_levels, to_array, to_levels
from codeprior.shapes import Image


def from_picture(image: Any) -> Image:
    """Gives a picture of any type as a unit tensor.

    Args:
        image: A PIL image, whose EXIF orientation is applied; an array `H W 3` of 8-bit levels or unit floats; a
            tensor `3 H W` or `b 3 H W`, unit or uint8.

    Returns:
        `b 3 H W`, unit.

    Raises:
        TypeError: It is none of these.
        ValueError: The shape or range is not a picture's.
    """
    if isinstance(image, Pictures.Image):
        image = np.asarray(upright(image))
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"restorer: expected an array H W 3, got shape {image.shape}.")
        image = rearrange(torch.from_numpy(np.ascontiguousarray(image).copy()), "h w c -> c h w")
    if not isinstance(image, Tensor):
        raise TypeError(f"restorer: expected PIL images, arrays or tensors, got {type(image).__name__}.")
    image = image[None] if image.ndim == 3 else image
    if image.ndim != 4 or image.shape[1] != 3 or not (image.is_floating_point() or image.dtype == torch.uint8):
        raise ValueError(
            f"restorer: expected unit floats or uint8, b 3 H W, got {image.dtype} of shape {tuple(image.shape)}."
        )
    image = from_levels(image) if image.dtype == torch.uint8 else image
    if image.numel() and not (image.min() >= -0.01 and image.max() <= 1.01):
        raise ValueError(
            f"restorer: expected unit values in [0, 1], got {image.min():.3g} to {image.max():.3g}; "
            "pass signed images through codeprior.to_unit, divide 8-bit levels by 255."
        )
    return image.float()


def face_from_picture(image: Any) -> Image:
    """Gives a picture of any type, of one aligned face, as a unit tensor; see `from_picture`.

    Args:
        image: As for `from_picture`.

    Raises:
        TypeError: It is no picture.
        ValueError: The shape or range is not a picture's, or it is too far from a square.
    """
    face = from_picture(image)
    height, width = face.shape[2:]
    if not nearly_square(height, width):
        raise ValueError(
            f"restorer: {height}×{width} pixels are too far from a square to be one aligned face; restorer.photograph "
            "finds the faces of a photograph."
        )
    return face


def photograph_levels(picture: Any) -> UInt8[np.ndarray, "H W 3"]:
    """Gives the levels of a photograph.

    Args:
        picture: A PIL image, whose EXIF orientation is applied, or an array `H W 3` of 8-bit levels.

    Raises:
        TypeError: It is neither of these.
        ValueError: The array holds something else.
    """
    if isinstance(picture, Pictures.Image):
        return np.array(upright(picture))
    if not isinstance(picture, np.ndarray):
        raise TypeError(
            f"photograph: expected a PIL image or an array H W 3 of 8-bit levels, got {type(picture).__name__}; open a "
            "file with PIL.Image.open, and turn a unit tensor into an array with codeprior.images.to_array."
        )
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ValueError(f"photograph: expected H W 3 of 8-bit levels, got {picture.dtype} of shape {picture.shape}.")
    return picture


def upright(image: Pictures.Image) -> Pictures.Image:
    """Gives a PIL image as RGB, turned as its EXIF orientation says.

    Args:
        image: As it was opened.
    """
    return ImageOps.exif_transpose(image).convert("RGB")


def nearly_square(height: int, width: int) -> bool:
    """Says whether a picture can be one aligned face: its sides are as 2 to 3 at most.

    Args:
        height: Rows.
        width: Columns.
    """
    return 2 * height <= 3 * width and 2 * width <= 3 * height


def to_picture(restored: Image, like: Any) -> Any:
    """Gives a unit tensor in the type of another picture.

    Args:
        restored: `b 3 H W`, unit; `b` is 1 for all but tensors of four dimensions.
        like: A picture of the type that is wanted; floats keep its precision.
    """
    if isinstance(like, Tensor):
        restored = to_levels(restored) if like.dtype == torch.uint8 else restored
        return restored[0] if like.ndim == 3 else restored
    if isinstance(like, np.ndarray) and like.dtype != np.uint8:
        return rearrange(restored[0], "c h w -> h w c").numpy().astype(like.dtype)
    levels = to_array(restored[0])
    return Pictures.fromarray(levels) if isinstance(like, Pictures.Image) else levels

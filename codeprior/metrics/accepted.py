"""What a metric takes: unit images, or 8-bit levels as uint8; anything else would give a plausible wrong number."""

import torch
from jaxtyping import Float
from torch import Tensor

from codeprior.shapes import Image

_SLACK = 1e-4  # for rounding errors in an image; degradations allow as much


def unit_images(who: str, images: Image, *, what: str = "images") -> Float[Tensor, "b 3 H W"]:
    """Gives images as unit floats, or refuses them and says which picture is wrong.

    Args:
        who: The metric, for the text of an error.
        images: `b 3 H W`, unit floats, or uint8.
        what: The argument's name, for the text of an error.

    Returns:
        The same images, floats; float32 where they were uint8.

    Raises:
        TypeError: It is no tensor, or holds integers other than uint8.
        ValueError: The shape is not `b 3 H W`, or a picture holds a NaN or values outside [0, 1].
    """
    if not isinstance(images, Tensor):
        raise TypeError(
            f"{who}: expected {what} as a tensor b 3 H W, got {type(images).__name__}; torch.from_numpy turns an array "
            "into one."
        )
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(
            f"{who}: expected {what} b 3 H W, got {tuple(images.shape)}; add a batch axis with image[None], or repeat "
            "a grey image three times."
        )
    if images.dtype == torch.uint8:
        return images.float() / 255
    if not images.is_floating_point():
        raise TypeError(f"{who}: expected {what} as floats in [0, 1] or uint8 levels, got {images.dtype}.")
    if images.numel():
        low, high = (value.item() for value in images.detach().aminmax())
        # written so that a NaN is refused
        if not (low >= -_SLACK and high <= 1 + _SLACK):
            _refuse(who, images.detach(), what)
    return images


def _refuse(who: str, images: Tensor, what: str) -> None:
    for number, image in enumerate(images):
        low, high = (value.item() for value in image.aminmax())
        if low >= -_SLACK and high <= 1 + _SLACK:
            continue
        place = f"{who}: picture {number} of {what}"
        if low != low or high != high:
            raise ValueError(f"{place} holds values that are not numbers (NaN); leave it out or mend what made it.")
        raise ValueError(
            f"{place}: expected unit floats in [0, 1], got values from {low:.4g} to {high:.4g}; use to_unit for signed "
            "images, clamp what a resize has overshot, or give 8-bit levels as uint8."
        )

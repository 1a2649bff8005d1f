"""The two pixel ranges, the only two functions that cross between them, and the one rule of resizing.

*Unit* is [0, 1]: files, photographs, degradations, metrics. *Signed* is [-1, 1]: what networks take and give.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

_OVERSHOOT = 0.5  # beyond what any interpolation overshoots, short of what a signed image reaches


def to_signed(unit: Float[Tensor, "... H W"]) -> Float[Tensor, "... H W"]:
    """Gives the signed image, `2 · unit − 1`.

    Args:
        unit: Floating-point image, unit, [0, 1].

    Returns:
        The same image, signed, [-1, 1].

    Raises:
        TypeError: It is no tensor, or holds integers, whose range is not known here.
        ValueError: On the CPU: values lie more than 0.5 outside [0, 1], so the image is signed already or in 8-bit
            levels. What a resize overshoots passes.

    Note:
        An encoder cannot tell a unit image from a bright signed one: that it is given signed images is the caller's
        care, and crossing once, with this function, is the way.
    """
    _check_tensor("to_signed", unit)
    if not unit.is_floating_point():
        raise TypeError(
            f"to_signed: expected a floating-point image in [0, 1], got {unit.dtype}; divide 8-bit levels by 255 first."
        )
    # on a GPU looking at values would make everything wait, and a traced graph cannot branch on them
    if unit.device.type == "cpu" and unit.numel() and not torch.compiler.is_compiling():
        low, high = (value.item() for value in unit.detach().aminmax())
        if low < -_OVERSHOOT or high > 1 + _OVERSHOOT:
            raise ValueError(
                f"to_signed: expected an image in [0, 1], got values from {low:.4g} to {high:.4g}; leave it out where "
                "the image is signed already, and divide 8-bit levels by 255."
            )
    return unit * 2 - 1


def to_unit(signed: Float[Tensor, "... H W"]) -> Float[Tensor, "... H W"]:
    """Gives the unit image, `(signed + 1) / 2` clamped to [0, 1].

    Decoders end in a convolution, so their images overshoot a little; the clamp is part of the crossing.

    Args:
        signed: Floating-point image, signed, about [-1, 1].

    Returns:
        The same image, unit, [0, 1].

    Raises:
        TypeError: It is no tensor, or holds integers.
    """
    _check_tensor("to_unit", signed)
    if not signed.is_floating_point():
        raise TypeError(f"to_unit: expected a floating-point image in [-1, 1], got {signed.dtype}.")
    return ((signed + 1) / 2).clamp(0, 1)


def check_image(who: str, image: Tensor, module: nn.Module) -> None:
    """Raises where a module cannot take an image, before PyTorch says so in terms of its own layers.

    Args:
        who: The module's name, for the text of an error.
        image: What it is given.
        module: Its first floating-point parameter says type and device.

    Raises:
        TypeError: It is no tensor, or of another type than the parameters, and no autocast is on.
        ValueError: It is not `b 3 H W`, or lies on another device.
    """
    _check_tensor(who, image)
    if image.ndim != 4 or image.shape[1] != 3:
        raise ValueError(
            f"{who}: expected images b 3 H W, got {tuple(image.shape)}; add a batch axis with image[None], or repeat a "
            "grey image three times."
        )
    weight = next((value for value in module.parameters() if value.is_floating_point()), None)
    if weight is None:
        return
    if image.device != weight.device:
        raise ValueError(f"{who}: its weights are on {weight.device}, the image on {image.device}; move one of them.")
    if image.dtype != weight.dtype and not torch.is_autocast_enabled(image.device.type):
        raise TypeError(
            f"{who}: its weights are {weight.dtype}, the image {image.dtype}; convert one of them, or use "
            "torch.autocast."
        )


def resize(image: Float[Tensor, "b c H W"], size: int) -> Float[Tensor, "b c size size"]:
    """Gives unit images at another size: area averaging to shrink, bicubic to enlarge; clamped to [0, 1].

    Args:
        image: `b c H W`, unit.
        size: New height and width, pixels.
    """
    if image.shape[-2:] == (size, size):
        return image
    if size < min(image.shape[-2:]):
        return F.interpolate(image, size=(size, size), mode="area")
    return F.interpolate(image, size=(size, size), mode="bicubic", align_corners=False).clamp(0, 1)


def _check_tensor(who: str, image: object) -> None:
    if not isinstance(image, Tensor):
        raise TypeError(
            f"{who}: expected a tensor, got {type(image).__name__}; torch.from_numpy(array) / 255 turns an array of "
            "8-bit levels into one."
        )

"""The pixel ranges, the only functions that cross between them, and the one rule of resizing.

*Unit* is [0, 1]: photographs, degradations, metrics. *Signed* is [-1, 1]: what networks take and give. *Levels* are the
whole numbers 0 to 255 of files and screens, arrays with their channels last.
"""

import io
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = [
    "as_png", "check_image", "check_latent", "check_pixels", "from_levels", "resize", "to_array", "to_levels",
    "to_signed", "to_unit",
]  # fmt: skip

_OVERSHOOT = 0.5  # more than any interpolation overshoots, and less than a signed image reaches


def to_signed(unit: Float[Tensor, "... H W"]) -> Float[Tensor, "... H W"]:
    """Gives the signed image, `2 · unit − 1`.

    Args:
        unit: Floating-point image of any shape, unit, [0, 1].

    Returns:
        The same image, signed, [-1, 1]. What a resize overshot is not clamped.

    Raises:
        TypeError: It is no tensor, or holds integers, whose range is not known here.
        ValueError: On the CPU: values lie more than 0.5 outside [0, 1], so the image is signed already or in 8-bit
            levels. What a resize overshoots passes.

    Note:
        An encoder cannot distinguish a unit image from a bright signed one. The caller must give it signed images;
        convert them once, with this function.
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
        signed: Floating-point image of any shape, signed, [-1, 1]. Values outside are clamped without an error.

    Returns:
        The same image, unit, [0, 1]; NaN stays NaN.

    Raises:
        TypeError: It is no tensor, or holds integers.

    Note:
        A unit image is a valid signed one, so that one given by mistake is not noticed: it becomes brighter, with half
        of its contrast. 8-bit levels as floats become white. Clamped values pass no gradient; a loss that needs one
        takes `(signed + 1) / 2`.
    """
    _check_tensor("to_unit", signed)
    if not signed.is_floating_point():
        raise TypeError(f"to_unit: expected a floating-point image in [-1, 1], got {signed.dtype}.")
    return ((signed + 1) / 2).clamp(0, 1)


def from_levels(levels: UInt8[np.ndarray, "*b H W 3"] | UInt8[Tensor, "*b 3 H W"]) -> Float[Tensor, "*b 3 H W"]:
    """Gives the unit image of 8-bit levels, `levels / 255`.

    Args:
        levels: An array `H W 3` or `b H W 3`, or a tensor `3 H W` or `b 3 H W`; uint8.

    Returns:
        A tensor with its channels before its pixels, unit, float32, in new memory.

    Raises:
        TypeError: It does not hold 8-bit levels.
        ValueError: There are not 3 channels, in the last axis of an array or before the pixels of a tensor.
    """
    if getattr(levels, "dtype", None) not in (np.uint8, torch.uint8):
        raise TypeError(f"from_levels: expected 8-bit levels, got {getattr(levels, 'dtype', type(levels).__name__)}.")
    last = isinstance(levels, np.ndarray)
    if levels.ndim not in (3, 4) or levels.shape[-1 if last else -3] != 3:
        expected = "an array H W 3 or b H W 3" if last else "a tensor 3 H W or b 3 H W"
        raise ValueError(
            f"from_levels: expected {expected}, got {tuple(levels.shape)}; move its channels there, or repeat a grey "
            "image three times."
        )
    if isinstance(levels, np.ndarray):
        # a copy: arrays of Pillow cannot be written to, which PyTorch warns of
        levels = rearrange(torch.from_numpy(np.array(levels)), "... h w c -> ... c h w").contiguous()
    return levels.float() / 255


def to_levels(unit: Float[Tensor, "*b 3 H W"]) -> UInt8[Tensor, "*b 3 H W"]:
    """Gives the nearest 8-bit levels of a unit image, `round(255 · unit)`, clamped to [0, 255].

    Args:
        unit: Floating-point image of any shape, unit, [0, 1]. Values outside are clamped without an error.

    Returns:
        A tensor of the same shape, uint8.

    Raises:
        TypeError: It is no floating-point tensor.
    """
    _check_tensor("to_levels", unit)
    if not unit.is_floating_point():
        raise TypeError(f"to_levels: expected a floating-point image in [0, 1], got {unit.dtype}.")
    return (unit.clamp(0, 1) * 255).round().to(torch.uint8)


def to_array(unit: Float[Tensor, "3 H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """Gives the levels of a unit image as an array, as Pillow and OpenCV take them.

    Args:
        unit: Floating-point image `3 H W`, unit, [0, 1], on any device. Values outside are clamped without an error.

    Returns:
        An array `H W 3`, RGB, uint8, in new memory.

    Raises:
        TypeError: It is no floating-point tensor.
        ValueError: It is not `3 H W`.
    """
    _check_tensor("to_array", unit)
    if unit.ndim != 3 or unit.shape[0] != 3:
        raise ValueError(
            f"to_array: expected one image 3 H W, got {tuple(unit.shape)}; take one of a batch, images[0]."
        )
    return np.ascontiguousarray(rearrange(to_levels(unit), "c h w -> h w c").cpu().numpy())


def as_png(unit: Float[Tensor, "b 3 H W"], *, most: int = 8) -> bytes:
    """Gives images side by side as the bytes of a PNG file, as notebooks show them.

    Args:
        unit: Floating-point images `b 3 H W`, unit, [0, 1]. Values outside are clamped without an error.
        most: Images that are shown; the first ones.

    Returns:
        A file of `3 H b·W`; of one white pixel where there are no images.

    Raises:
        TypeError: It is no tensor, or holds integers.
        ValueError: It is not `b 3 H W`.
    """
    check_pixels("as_png", unit)
    from PIL import Image as Pictures

    written: Any = io.BytesIO()
    row = rearrange(unit[:most].float(), "b c h w -> c h (b w)") if len(unit) else torch.ones(3, 1, 1)
    Pictures.fromarray(to_array(row)).save(written, format="PNG")
    return written.getvalue()


def check_pixels(who: str, image: Tensor) -> None:
    """Raises an error where this is no batch of floating-point images; its range is not looked at.

    Integers are refused because a difference of 8-bit levels wraps around, and a network takes them for signed values.

    Args:
        who: The function or module, for the text of an error.
        image: What it is given.

    Raises:
        TypeError: It is no tensor, or holds integers.
        ValueError: It is not `b 3 H W`.
    """
    _check_tensor(who, image)
    if not image.is_floating_point():
        raise TypeError(
            f"{who}: expected floating-point images, got {image.dtype}; from_levels turns 8-bit levels into a unit "
            "image, and to_signed a unit image into a signed one."
        )
    if image.ndim != 4 or image.shape[1] != 3:
        last = image.ndim in (3, 4) and image.shape[-1] == 3 != image.shape[-3]
        advice = (
            "image.movedim(-1, -3) puts channels that come last before the pixels"
            if last
            else "add a batch axis with image[None], or repeat a grey image three times"
        )
        raise ValueError(f"{who}: expected images b 3 H W, got {tuple(image.shape)}; {advice}.")


def check_image(who: str, image: Tensor, module: nn.Module, *, size: int | None = None) -> None:
    """Raises an error where a module cannot take an image, before PyTorch does so in terms of its layers.

    Args:
        who: The module's name, for the text of an error.
        image: What it is given.
        module: Its first floating-point parameter says type and device.
        size: The only side that it takes, pixels; None where it takes several.

    Raises:
        TypeError: It is no tensor, holds integers, or is of another type than the parameters, and no autocast is on.
        ValueError: It is not `b 3 H W` of this size, or lies on another device.
    """
    check_pixels(who, image)
    if size is not None and image.shape[-2:] != (size, size):
        height, width = image.shape[-2:]
        raise ValueError(
            f"{who}: expected {size}×{size} images, got {width}×{height}; resize them, or build it with their size."
        )
    _check_place(who, "the image", image, module)


def check_latent(who: str, latent: Tensor, module: nn.Module, *, dim: int) -> None:
    """Raises an error where a module cannot take a latent or the values of one; see `check_image`.

    Args:
        who: The module's name, for the text of an error.
        latent: What it is given.
        module: Its first floating-point parameter says type and device.
        dim: Code dimension that it takes.

    Raises:
        TypeError: It is no tensor, or of another type than the parameters, and no autocast is on.
        ValueError: It is not `b dim h w`, or lies on another device.
    """
    if not isinstance(latent, Tensor):
        raise TypeError(f"{who}: expected a tensor b {dim} h w, got {type(latent).__name__}.")
    if latent.ndim != 4 or latent.shape[1] != dim:
        raise ValueError(
            f"{who}: expected values b {dim} h w, got {tuple(latent.shape)}; indices become values by a codebook's "
            "lookup."
        )
    _check_place(who, "what it is given", latent, module)


def _check_place(who: str, name: str, given: Tensor, module: nn.Module) -> None:
    weight = next((value for value in module.parameters() if value.is_floating_point()), None)
    if weight is None:
        return
    if given.device != weight.device:
        raise ValueError(f"{who}: its weights are on {weight.device}, {name} on {given.device}; move one of them.")
    if given.dtype != weight.dtype and not torch.is_autocast_enabled(given.device.type):
        raise TypeError(
            f"{who}: its weights are {weight.dtype}, {name} {given.dtype}; convert one of them, or use torch.autocast."
        )


def resize(image: Float[Tensor, "b c H W"], size: int) -> Float[Tensor, "b c size size"]:
    """Gives unit images at another size, square: area averaging to shrink, bicubic to enlarge; clamped to [0, 1].

    Args:
        image: Floating-point, `b c H W`, unit; of any proportions, which are not kept.
        size: New height and width, pixels, 1 or more.

    Returns:
        `b c size size`, unit; the images themselves where they have this size.

    Raises:
        TypeError: It is no tensor, or holds integers.
        ValueError: It is not `b c H W`, or the size is below 1.
    """
    _check_tensor("resize", image)
    if not image.is_floating_point():
        raise TypeError(f"resize: expected floating-point images in [0, 1], got {image.dtype}; from_levels gives them.")
    if image.ndim != 4 or size < 1:
        raise ValueError(
            f"resize: expected images b c H W and a size of 1 or more, got {tuple(image.shape)} and {size}."
        )
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

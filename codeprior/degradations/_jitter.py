"""The four steps of a colour jitter on one image, planes `3 H W`, unit, as torchvision defines them."""

import torch
from torch import Tensor

_LUMA = (0.2989, 0.587, 0.114)


def _luma(planes: Tensor) -> Tensor:
    return _LUMA[0] * planes[0] + _LUMA[1] * planes[1] + _LUMA[2] * planes[2]


def _blended(planes: Tensor, other: Tensor | float, factor: float) -> Tensor:
    return (factor * planes + (1 - factor) * other).clamp(0, 1)


def brightness(planes: Tensor, factor: float) -> Tensor:
    """Gives the image times the factor."""
    return _blended(planes, 0.0, factor)


def contrast(planes: Tensor, factor: float) -> Tensor:
    """Gives the image moved away from its mean luma."""
    return _blended(planes, _luma(planes).mean(), factor)


def saturation(planes: Tensor, factor: float) -> Tensor:
    """Gives the image moved away from its own luma."""
    return _blended(planes, _luma(planes), factor)


def hue(planes: Tensor, turn: float) -> Tensor:
    """Gives the image with its hue turned by a part of the whole circle."""
    high, low = planes.amax(0), planes.amin(0)
    spread = high - low
    safe = torch.where(spread > 0, spread, torch.ones_like(spread))
    red, green, blue = ((high - channel) / safe for channel in planes)
    angle = torch.where(
        planes[0] == high, blue - green, torch.where(planes[1] == high, 2 + red - blue, 4 + green - red)
    )
    angle = (torch.where(spread > 0, angle / 6, torch.zeros_like(angle)) + turn) % 1
    sector = (angle * 6).floor()
    rest = angle * 6 - sector
    share = spread / torch.where(high > 0, high, torch.ones_like(high))
    falling, rising = high * (1 - share * rest), high * (1 - share * (1 - rest))
    ways = (
        (high, rising, low), (falling, high, low), (low, high, rising),
        (low, falling, high), (rising, low, high), (high, low, falling),
    )  # fmt: skip
    result = torch.stack(ways[5])
    for number in range(5):
        result = torch.where(sector == number, torch.stack(ways[number]), result)
    return result.clamp(0, 1)


STEPS = (brightness, contrast, saturation, hue)

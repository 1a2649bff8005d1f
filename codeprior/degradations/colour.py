"""Colour: channel shift, jitter, grey; and the clamp and the rounding that end a chain."""

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from codeprior.extras import needed

from ._canvas import Canvas
from ._draws import Draws
from ._run import Mode
from .op import Kind, Op, Pixels, Sizes, ordered
from .record import Values

LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601 weights of red, green and blue."""

_TORCHVISION_LUMA = (0.2989, 0.587, 0.114)
_ORDERS = np.array(list(itertools.permutations(range(4))), np.uint8)


@dataclass(frozen=True, kw_only=True)
class Clamp(Op):
    """Clamps to [0, 1]."""

    def _draw(self, draws: Draws, sizes: Sizes, origin: Sizes) -> dict[str, np.ndarray]:
        return {}

    def _one(self, image: Pixels, values: Values, strict: bool) -> Pixels:
        return np.clip(image, 0, 1)

    def _batch(self, canvas: Canvas, values: Values, mode: Mode) -> Canvas:
        return Canvas(canvas.pixels.clamp(0, 1), canvas.sizes)


@dataclass(frozen=True, kw_only=True)
class Round(Op):
    """Clamps and rounds to the 8-bit grid, half to even. In mode `diff` the gradient passes unchanged."""

    def _draw(self, draws: Draws, sizes: Sizes, origin: Sizes) -> dict[str, np.ndarray]:
        return {}

    def _one(self, image: Pixels, values: Values, strict: bool) -> Pixels:
        return np.rint(np.clip(image, 0, 1) * np.float32(255)) / np.float32(255)

    def _batch(self, canvas: Canvas, values: Values, mode: Mode) -> Canvas:
        clamped = canvas.pixels.clamp(0, 1)
        rounded = (clamped * 255).round() / 255
        if mode == "diff":
            rounded = rounded.detach() + (clamped - clamped.detach())
        return Canvas(rounded, canvas.sizes)

    def _kind(self, values: Values) -> Kind | None:
        return "round"


@dataclass(frozen=True, kw_only=True)
class ChannelShift(Op):
    """Adds one number to each channel, then clips to [0, 1].

    Args:
        shift: Range of the number, 8-bit levels.

    Source: TencentARC/GFPGAN:gfpgan/data/ffhq_degradation_dataset.py, colour jitter of ±20.
    """

    shift: tuple[float, float] = (-20, 20)

    def __post_init__(self) -> None:
        ordered(self, "shift")

    def _draw(self, draws: Draws, sizes: Sizes, origin: Sizes) -> dict[str, np.ndarray]:
        return {"shift": np.stack([draws.uniform(*self.shift) for _ in range(3)], 1).astype(np.float32)}

    def _one(self, image: Pixels, values: Values, strict: bool) -> Pixels:
        return np.clip(image + np.asarray(values["shift"], np.float32) / np.float32(255), 0, 1)

    def _batch(self, canvas: Canvas, values: Values, mode: Mode) -> Canvas:
        shift = canvas.send(values["shift"])[:, :, None, None] / 255
        return Canvas((canvas.pixels + shift).clamp(0, 1), canvas.sizes)


@dataclass(frozen=True, kw_only=True)
class Grey(Op):
    """Replaces the channels by their BT.601 luma."""

    def _draw(self, draws: Draws, sizes: Sizes, origin: Sizes) -> dict[str, np.ndarray]:
        return {}

    def _one(self, image: Pixels, values: Values, strict: bool) -> Pixels:
        cv2 = needed("cv2", who="Grey on the CPU")

        return np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, 2)

    def _batch(self, canvas: Canvas, values: Values, mode: Mode) -> Canvas:
        red, green, blue = canvas.pixels.unbind(1)
        luma = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
        return Canvas(luma[:, None].expand_as(canvas.pixels), canvas.sizes)


@dataclass(frozen=True, kw_only=True)
class ColourJitter(Op):
    """Changes brightness, contrast, saturation and hue, in an order that is drawn.

    Args:
        brightness: Range of the factor on the image.
        contrast: Range of the factor on the distance from the mean luma.
        saturation: Range of the factor on the distance from each pixel's luma.
        hue: Range of the turn of the hue, in whole turns.

    Source: TencentARC/GFPGAN:gfpgan/data/ffhq_degradation_dataset.py; the four steps as torchvision defines them.
    """

    brightness: tuple[float, float] = (0.5, 1.5)
    contrast: tuple[float, float] = (0.5, 1.5)
    saturation: tuple[float, float] = (0, 1.5)
    hue: tuple[float, float] = (-0.1, 0.1)

    def __post_init__(self) -> None:
        ordered(self, "brightness", "contrast", "saturation", "hue")

    def _draw(self, draws: Draws, sizes: Sizes, origin: Sizes) -> dict[str, np.ndarray]:
        ranges = (self.brightness, self.contrast, self.saturation, self.hue)
        return {
            "order": _ORDERS[draws.choice([1] * len(_ORDERS))],
            "factors": np.stack([draws.uniform(*span) for span in ranges], 1).astype(np.float32),
        }

    def _one(self, image: Pixels, values: Values, strict: bool) -> Pixels:
        planes = torch.from_numpy(np.ascontiguousarray(rearrange(image, "h w c -> c h w")))
        return np.ascontiguousarray(rearrange(_jittered(planes, values).numpy(), "c h w -> h w c"))

    def _batch(self, canvas: Canvas, values: Values, mode: Mode) -> Canvas:
        height, width = canvas.pixels.shape[-2:]
        results = []
        for number, (tall, wide) in enumerate(canvas.sizes.tolist()):
            row = {name: value[number] for name, value in values.items()}
            image = _jittered(canvas.pixels[number, :, :tall, :wide], row)
            results.append(torch.nn.functional.pad(image, (0, width - wide, 0, height - tall)))
        return Canvas(torch.stack(results), canvas.sizes)


def _jittered(planes: Tensor, values: Values) -> Tensor:
    """Gives one image, `3 H W`, unit, after the four steps in the order that was drawn."""
    factors = [float(factor) for factor in values["factors"]]
    for which in values["order"]:
        planes = _STEPS[int(which)](planes, factors[int(which)])
    return planes


def _luma(planes: Tensor) -> Tensor:
    return _TORCHVISION_LUMA[0] * planes[0] + _TORCHVISION_LUMA[1] * planes[1] + _TORCHVISION_LUMA[2] * planes[2]


def _blended(planes: Tensor, other: Tensor | float, factor: float) -> Tensor:
    return (factor * planes + (1 - factor) * other).clamp(0, 1)


def _brightness(planes: Tensor, factor: float) -> Tensor:
    """Gives the image times the factor."""
    return _blended(planes, 0.0, factor)


def _contrast(planes: Tensor, factor: float) -> Tensor:
    """Gives the image moved away from its mean luma."""
    return _blended(planes, _luma(planes).mean(), factor)


def _saturation(planes: Tensor, factor: float) -> Tensor:
    """Gives the image moved away from its own luma."""
    return _blended(planes, _luma(planes), factor)


def _hue(planes: Tensor, turn: float) -> Tensor:
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
    sectors = (
        (high, rising, low), (falling, high, low), (low, high, rising),
        (low, falling, high), (rising, low, high), (high, low, falling),
    )  # fmt: skip
    result = torch.stack(sectors[5])
    for number in range(5):
        result = torch.where(sector == number, torch.stack(sectors[number]), result)
    return result.clamp(0, 1)


_STEPS = (_brightness, _contrast, _saturation, _hue)

"""What models of some families do beside restoring: filling areas of a face, colouring a grey one, drawing one anew.

A model says in `task` which of them it was trained for; each function refuses a model of another task.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from codeprior.images import resize, to_signed, to_unit

Pixels = UInt8[np.ndarray, "H W 3"]
Mask = Bool[np.ndarray, "H W"]
_WHITE = 255

TRAINED_FOR: Mapping[str, str] = MappingProxyType(
    {"inpaint": "inpainting", "colourise": "colourisation", "draw": "segmentation"}
)
"""What a model of each task calls itself in its attribute `task`."""


class DoesTask(Protocol):
    """A model that was trained for a task.

    Attributes:
        task: Its name.
        size: Side of the faces that it takes, pixels.
    """

    task: str
    size: int

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]: ...

    def restore(self, degraded: Tensor, **options: Any) -> Tensor:
        """Gives the face anew, signed."""
        ...


def inpaint(
    model: DoesTask, pixels: Pixels, mask: Mask | None = None, *, options: Mapping[str, Any] | None = None
) -> Pixels:
    """Gives an aligned face whose masked area is drawn anew; everything else is as it was, to the bit.

    Args:
        model: Of the task inpainting.
        pixels: `H W 3`, RGB, 8-bit levels, square.
        mask: `H W`, true where to draw; without it, where all three levels are 255.
        options: Of the model's `restore`.

    Raises:
        ValueError: The model is of another task, the face is not square, the mask has another size, or nothing is
            masked.

    Source: sczhou/CodeFormer, its inpainting: the area is white in what the network sees.
    """
    _check("inpaint", model, pixels, mask)
    wanted = (pixels == _WHITE).all(-1) if mask is None else mask
    if not wanted.any():
        raise ValueError("inpaint: nothing is masked; give a mask, or paint the area white (255, 255, 255).")
    seen = np.where(wanted[..., None], np.uint8(_WHITE), pixels)
    return np.where(wanted[..., None], _answer(model, seen, options), pixels)


def colourise(
    model: DoesTask, pixels: Pixels, mask: Mask | None = None, *, options: Mapping[str, Any] | None = None
) -> Pixels:
    """Gives an aligned face its likely colours.

    Args:
        model: Of the task colourisation.
        pixels: `H W 3`, RGB, 8-bit levels, square; three equal levels where it is grey.
        mask: `H W`, true where colours are wanted; everywhere without it.
        options: Of the model's `restore`.

    Raises:
        ValueError: The model is of another task, the face is not square, or the mask has another size.
    """
    _check("colourise", model, pixels, mask)
    answer = _answer(model, pixels, options)
    return answer if mask is None else np.where(mask[..., None], answer, pixels)


def draw(
    model: DoesTask, pixels: Pixels, mask: Mask | None = None, *, options: Mapping[str, Any] | None = None
) -> Pixels:
    """Gives a face for a map of its parts, each part painted in its own colour.

    Args:
        model: Of the task segmentation.
        pixels: `H W 3`, RGB, 8-bit levels, square; the colours are those that the weights were trained with.
        mask: `H W`, true where the face is wanted; everywhere without it.
        options: Of the model's `restore`.

    Raises:
        ValueError: The model is of another task, the map is not square, or the mask has another size.
    """
    _check("draw", model, pixels, mask)
    answer = _answer(model, pixels, options)
    return answer if mask is None else np.where(mask[..., None], answer, pixels)


def check_task(who: str, model: DoesTask) -> None:
    """Refuses weights that were trained for something else than a task.

    Args:
        who: Name of the task, a key of `TRAINED_FOR`.
        model: Says in `task` what it was trained for.

    Raises:
        ValueError: It was trained for something else.
    """
    if model.task != TRAINED_FOR[who]:
        raise ValueError(f"{who}: the weights are for {model.task}; give it weights for {TRAINED_FOR[who]}.")


def _answer(model: DoesTask, pixels: Pixels, options: Mapping[str, Any] | None) -> Pixels:
    """Gives what the model makes of a face, at the face's size."""
    device = next(model.parameters()).device
    unit = rearrange(torch.as_tensor(pixels), "h w c -> 1 c h w").float() / 255
    signed = to_signed(resize(unit, model.size)).to(device)
    restored = to_unit(model.restore(signed, **(options or {})).clamp(-1, 1)).cpu()
    if restored.shape[-2:] != unit.shape[-2:]:
        restored = F.interpolate(restored, unit.shape[-2:], mode="bicubic", antialias=True).clamp(0, 1)
    return (rearrange(restored, "1 c h w -> h w c") * 255).round().to(torch.uint8).numpy()


def _check(who: str, model: DoesTask, pixels: Pixels, mask: Mask | None) -> None:
    check_task(who, model)
    if pixels.ndim != 3 or pixels.shape[0] != pixels.shape[1] or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ValueError(
            f"{who}: expected an aligned, square face H W 3 of 8-bit levels, got {pixels.dtype} {pixels.shape}."
        )
    if mask is not None and mask.shape != pixels.shape[:2]:
        raise ValueError(f"{who}: the mask is {mask.shape}, the face {pixels.shape[:2]}; they must be equal.")

"""Inpainting in a whole photograph: masked places of its faces are drawn anew, every other pixel keeps its value."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, UInt8

from codeprior.photos.faces import Detector, Face, invert, resample, transform
from codeprior.photos.preparation import Choices, prepare

_TOUCHED = 1 / 64  # share of a masked pixel from which a pixel of an aligned face is masked
_WHITE = 255

Fill = Callable[[UInt8[np.ndarray, "n n 3"], Bool[np.ndarray, "n n"]], UInt8[np.ndarray, "n n 3"]]
"""Gives an aligned face whose masked area is drawn anew; see `codeprior.restorers.tasks.inpaint`."""


class Filled(NamedTuple):
    """A photograph whose faces were filled.

    Attributes:
        pixels: `H W 3`, RGB, 8-bit levels.
        faces: How many faces held something that was masked.
        left: Share of the masked pixels that lie on no face, and are as they were.
    """

    pixels: UInt8[np.ndarray, "H W 3"]
    faces: int
    left: float


def fill_photo(
    pixels: UInt8[np.ndarray, "H W 3"],
    fill: Fill,
    detector: Detector | None,
    *,
    size: int,
    mask: Bool[np.ndarray, "H W"] | None = None,
    faces: Sequence[Face] | None = None,
    choices: Choices | None = None,
) -> Filled:
    """Draws masked places of the faces of a photograph anew; what is not masked stays as it was, to the bit.

    Args:
        pixels: `H W 3`, RGB, 8-bit levels.
        fill: What fills an aligned face of the model's size.
        detector: What finds the faces; not asked where `faces` are given.
        size: Side of the aligned faces, pixels: the model's.
        mask: `H W`, true where to draw; without it, where all three levels are 255.
        faces: Faces whose points are known.
        choices: Which faces, and which are too small or too doubtful.

    Raises:
        ValueError: Nothing is masked, the mask has another size, no face is there, or none holds a masked place.
    """
    wanted = (pixels == _WHITE).all(-1) if mask is None else mask
    if wanted.shape != pixels.shape[:2]:
        raise ValueError(
            f"fill_photo: the mask is {wanted.shape}, the photograph {pixels.shape[:2]}; they must be equal."
        )
    if not wanted.any():
        raise ValueError("fill_photo: nothing is masked; give a mask, or paint the area white (255, 255, 255).")
    prepared = prepare(pixels, detector, size=size, choices=choices or Choices(tint=False), faces=faces)
    shown = torch.from_numpy(wanted.astype(np.uint8) * np.uint8(255))[None]
    answer, left, filled = pixels.copy(), wanted.copy(), 0
    height, width = wanted.shape
    for crop in prepared.own:
        side = crop.image.shape[-1]
        hidden = resample(shown, crop.matrix, height=side, width=side, padding="zeros")[0].numpy() > _TOUCHED
        back = invert(crop.matrix)
        take = left & _inside(back, height, width, side)
        if not hidden.any() or not take.any():
            continue
        face = (rearrange(crop.image, "c h w -> h w c") * 255).round().to(torch.uint8).numpy()
        drawn = rearrange(torch.from_numpy(fill(face, hidden)), "h w c -> c h w")
        seen = resample(drawn, back, height=height, width=width, padding="border").clamp(0, 1)
        answer[take] = (rearrange(seen, "c h w -> h w c") * 255).round().to(torch.uint8).numpy()[take]
        left &= ~take
        filled += 1
    if not filled:
        raise ValueError("fill_photo: what is masked lies on no face that was found; this fills faces only.")
    return Filled(answer, filled, float(left.sum() / wanted.sum()))


def _inside(back: np.ndarray, height: int, width: int, side: int) -> Bool[np.ndarray, "H W"]:
    """Says which pixels of a photograph an aligned face covers."""
    rows, columns = np.mgrid[:height, :width]
    places = transform(np.stack((columns.ravel(), rows.ravel()), 1), back)
    return ((places >= -0.5) & (places <= side - 0.5)).all(1).reshape(height, width)

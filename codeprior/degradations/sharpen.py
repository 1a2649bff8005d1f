"""Unsharp masking, which some pipelines do to the truth before they degrade it, and white brush strokes."""

from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange

from codeprior.extras import needed

from ._canvas import Canvas
from ._draws import Draws
from ._run import Mode
from .blur import correlated_canvas, gaussian_taps, odd
from .op import Op, Pixels, Sizes
from .record import Values


@dataclass(frozen=True, kw_only=True)
class Unsharp(Op):
    """Adds the difference from a blurred copy where it is large: `m · clip(x + w (x − G x)) + (1 − m) · x`.

    The mask `m` is 1 where the difference is above `threshold`, blurred in turn.

    Args:
        size: Side of the Gaussian, pixels; its σ is OpenCV's for that side, `0.3 ((size − 1) / 2 − 1) + 0.8`.
        weight: How much of the difference is added.
        threshold: 8-bit levels.

    Source: xinntao/Real-ESRGAN, its USMSharp with radius 50, 51 pixels; there the blur is dense, here separable.
    """

    size: int = 51
    weight: float = 0.5
    threshold: float = 10.0

    def __post_init__(self) -> None:
        odd(self, (self.size,))

    def _draw(self, draws: Draws, sizes: Sizes, origin: Sizes) -> dict[str, np.ndarray]:
        return {}

    def _taps(self) -> np.ndarray:
        return gaussian_taps(self.size, 0.3 * ((self.size - 1) * 0.5 - 1) + 0.8)

    def _one(self, image: Pixels, values: Values, strict: bool) -> Pixels:
        cv2 = needed("cv2", who="Unsharp on the CPU")

        taps = self._taps()
        difference = image - cv2.sepFilter2D(image, -1, taps, taps, borderType=cv2.BORDER_REFLECT_101)
        mask = (np.abs(difference) * np.float32(255) > self.threshold).astype(np.float32)
        mask = cv2.sepFilter2D(mask, -1, taps, taps, borderType=cv2.BORDER_REFLECT_101)
        sharp = np.clip(image + np.float32(self.weight) * difference, 0, 1)
        return mask * sharp + (1 - mask) * image

    def _batch(self, canvas: Canvas, values: Values, mode: Mode) -> Canvas:
        kernel = np.outer(self._taps(), self._taps())[None]
        difference = canvas.pixels - correlated_canvas(canvas, kernel).pixels
        mask = (difference.abs() * 255 > self.threshold).float()
        mask = correlated_canvas(Canvas(mask, canvas.sizes), kernel).pixels
        sharp = (canvas.pixels + self.weight * difference).clamp(0, 1)
        return Canvas(mask * sharp + (1 - mask) * canvas.pixels, canvas.sizes)


@dataclass(frozen=True, kw_only=True)
class BrushStrokes(Op):
    """Paints white strokes, as a restorer learns inpainting from.

    Args:
        strokes: Range of their number.
        vertices: Range of the number of corners of a stroke.
        width: Range of the brush's width, part of the shorter side.
        reach: Longest piece of a stroke, part of the shorter side.

    Source: sczhou/CodeFormer trains inpainting on white brush strokes; the numbers here are this library's own.
    """

    strokes: tuple[int, int] = (1, 6)
    vertices: tuple[int, int] = (3, 10)
    width: tuple[float, float] = (0.02, 0.1)
    reach: float = 0.25

    def _draw(self, draws: Draws, sizes: Sizes, origin: Sizes) -> dict[str, np.ndarray]:
        return {"key": draws.key()}

    def _painted(self, key: int, height: int, width: int) -> np.ndarray:
        """Gives 1 under a stroke and 0 elsewhere, `height width`, float32."""
        cv2 = needed("cv2", who="BrushStrokes")

        draws = Draws(np.array([key], np.int64).view(np.uint64))
        side = min(height, width)
        mask = np.zeros((height, width), np.uint8)
        for _ in range(_whole(draws, self.strokes)):
            brush = max(1, round(side * draws.uniform(*self.width).item()))
            place = np.array([draws.unit().item() * width, draws.unit().item() * height])
            for _ in range(_whole(draws, self.vertices)):
                angle = draws.uniform(0, 2 * np.pi).item()
                after = place + draws.unit().item() * self.reach * side * np.array([np.cos(angle), np.sin(angle)])
                start, end = (tuple(int(value) for value in corner) for corner in (place, after))
                cv2.line(mask, start, end, 1, brush)
                cv2.circle(mask, end, brush // 2, 1, -1)
                place = after
        return mask.astype(np.float32)

    def _one(self, image: Pixels, values: Values, strict: bool) -> Pixels:
        return np.maximum(image, self._painted(int(values["key"]), *image.shape[:2])[..., None])

    def _batch(self, canvas: Canvas, values: Values, mode: Mode) -> Canvas:
        masks = np.zeros((len(canvas.sizes), *canvas.pixels.shape[-2:]), np.float32)
        for number, (height, width) in enumerate(canvas.sizes.tolist()):
            masks[number, :height, :width] = self._painted(int(values["key"][number]), height, width)
        return Canvas(torch.maximum(canvas.pixels, canvas.send(rearrange(masks, "b h w -> b 1 h w"))), canvas.sizes)


def _whole(draws: Draws, span: tuple[int, int]) -> int:
    return span[0] + int(draws.unit().item() * (span[1] - span[0] + 1))

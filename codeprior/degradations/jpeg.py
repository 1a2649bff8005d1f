"""JPEG as libjpeg makes it: 4:2:0, standard tables, accurate integer DCT, fancy upsampling.

On the CPU libjpeg itself runs, elsewhere its integer arithmetic (`codeprior.kernels.jpeg`), with the same result. Mode
`diff` gives the same values too, with the gradient of a softened JPEG, which is the second half of this file. All three
would have to change for another chroma subsampling.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from codeprior.extras import needed

from ._canvas import Canvas
from ._draws import Draws
from ._run import Mode
from .op import Op, Pixels, Sizes, ordered, reject
from .record import Values


@dataclass(frozen=True, kw_only=True)
class Jpeg(Op):
    """Compresses and decompresses; the input is clamped and rounded half to even, the result lies on the 8-bit grid.

    On the CPU libjpeg itself runs, elsewhere its integer arithmetic in torch, with the same result. Mode `diff` passes
    gradients through the rounding of coefficients (see the docs page).

    Args:
        quality: Range of the quality, 1 to 100, drawn as a real number.
        cast: How it becomes whole: `round` (half to even, as OpenCV 4.5.2 does with floats) or `floor` (as `int()`).

    Source: specifications of libjpeg-turbo's `jfdctint`, `jidctint` and fancy upsampling; quality and cast as in
        XPixelGroup/BasicSR:basicsr/data/degradations.py.
    """

    quality: tuple[float, float] = (60, 100)
    cast: Literal["round", "floor"] = "round"

    def __post_init__(self) -> None:
        ordered(self, "quality")
        if not 1 <= self.quality[0] <= self.quality[1] <= 100:
            raise ValueError(f"Jpeg: expected qualities from 1 to 100, got {self.quality}.")
        if self.cast not in ("round", "floor"):
            raise ValueError(f"Jpeg: expected cast round or floor, got {self.cast!r}.")

    def _draw(self, draws: Draws, sizes: Sizes, origin: Sizes) -> dict[str, np.ndarray]:
        quality = draws.uniform(*self.quality)
        return {"quality": (np.rint if self.cast == "round" else np.floor)(quality).astype(np.uint8)}

    def _check(self, values: Values, sizes: Sizes) -> None:
        quality = values["quality"]
        reject(self, (quality < 1) | (quality > 100), "expected a quality from 1 to 100.")

    def _one(self, image: Pixels, values: Values, strict: bool) -> Pixels:
        from ._native import levels_reversed, unit_reversed

        return unit_reversed(_through_libjpeg(levels_reversed(image), int(values["quality"])))

    def _batch(self, canvas: Canvas, values: Values, mode: Mode) -> Canvas:
        from codeprior.kernels.jpeg import jpeg, quality_tables

        tables = canvas.send(quality_tables(values["quality"]))
        result = jpeg(canvas.pixels, canvas.extent(), tables)
        if mode == "diff" and torch.is_grad_enabled() and canvas.pixels.requires_grad:
            soft = softened(canvas, tables)
            result = result + (soft - soft.detach())
        return Canvas(result, canvas.sizes)


def jpeg_levels(image: np.ndarray, quality: int) -> np.ndarray:
    """Gives 8-bit RGB pixels, `H W 3`, through libjpeg and back."""
    return _through_libjpeg(np.ascontiguousarray(image[..., ::-1]), quality)[..., ::-1]


def _through_libjpeg(blue_first: np.ndarray, quality: int) -> np.ndarray:
    cv2 = needed("cv2", who="Jpeg on the CPU")

    code = cv2.imencode(".jpg", blue_first, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR))


_NOISE = 2.5
_WIDEST = 0.5  # from here on the bumps overlap to 1, within 1.5 %


def softened(canvas: Canvas, tables: Tensor) -> Tensor:
    """Gives a differentiable stand-in for JPEG, of which only the gradient is used.

    The linear parts keep their true derivative. Rounding has none, but what a rounded coefficient is on average under a
    little noise has: `d/du E[round(u + σ n)] = Σₖ φ((u − k − ½) / σ) / σ`, a bump of area 1 at each place where the
    result jumps. The noise is 2.5 levels of a pixel, so σ is 2.5 / step in units of the step. At high quality the
    factor is about 1 everywhere. At low quality almost all coefficients are far from a jump and their factor is near 0,
    and it is large for a few. On average this is the slope of the codec. Passing all gradients unchanged, or only those
    of coefficients that are not rounded to 0, would not be.

    Args:
        canvas: The images.
        tables: Quantization tables of luma and chroma: `b 2 8 8`.

    Returns:
        Unit images, `b 3 H W`.
    """
    from codeprior.kernels._canvas import gathered

    height, width = canvas.pixels.shape[-2:]
    tall, wide = (-(-side // 16) * 16 for side in (height, width))
    rows = np.minimum(np.arange(tall)[None], canvas.sizes[:, :1] - 1)
    columns = np.minimum(np.arange(wide)[None], canvas.sizes[:, 1:] - 1)
    levels = gathered(canvas.pixels, canvas.send(rows), canvas.send(columns)).clamp(0, 1) * 255
    red, green, blue = levels.unbind(1)
    steps = tables.float()
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    chroma = torch.stack([(blue - luma) / 1.772, (red - luma) / 1.402], 1)
    luma = (_softly_quantized(luma[:, None] - 128, steps[:, 0])[:, 0] + 128).clamp(0, 255)
    chroma = _softly_quantized(F.avg_pool2d(chroma, 2), steps[:, 1]).clamp(-128, 127)
    blue, red = F.interpolate(chroma, scale_factor=2, mode="bilinear", align_corners=False).unbind(1)
    image = torch.stack([luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue], 1)
    return (image.clamp(0, 255) / 255)[..., :height, :width]


def _softly_quantized(planes: Tensor, table: Tensor) -> Tensor:
    """Gives planes, `b c H W` with sides in eights, transformed, quantized softly and back; `table` is `b 8 8`."""
    basis = _cosines().to(planes)
    blocks = rearrange(planes, "b c (h y) (w x) -> b c h w y x", y=8, x=8)
    step = table[:, None, None, None]
    units = basis @ blocks @ basis.mT / step
    fixed = units.detach()
    rounded = fixed.round() + _slope(fixed, (_NOISE / step).clamp(max=_WIDEST)) * (units - fixed)
    back = basis.mT @ (rounded * step) @ basis
    return rearrange(back, "b c h w y x -> b c (h y) (w x)")


def _slope(units: Tensor, sigma: Tensor) -> Tensor:
    """Gives the derivative of the expected rounding under normal noise, from the three nearest jumps."""
    away = units - units.floor() - 0.5
    bumps = sum(torch.exp(-0.5 * ((away - jump) / sigma) ** 2) for jump in (-1, 0, 1))
    return bumps / (sigma * math.sqrt(2 * math.pi))


def _cosines() -> Tensor:
    """Gives the orthonormal cosine transform of eight numbers."""
    place, wave = torch.arange(8.0), torch.arange(8.0)[:, None]
    basis = torch.cos((2 * place + 1) * wave * (math.pi / 16)) / 2
    basis[0] /= math.sqrt(2)
    return basis

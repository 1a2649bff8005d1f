"""A differentiable stand-in for JPEG, of which only the gradient is used; the values come from the exact form.

The linear parts keep their true derivative. Rounding has none, but what a rounded coefficient is on average under a
little noise has: `d/du E[round(u + σ n)] = Σₖ φ((u − k − ½) / σ) / σ`, a bump of area 1 at each place where the result
jumps. The noise is 2.5 levels of a pixel, so σ is 2.5 / step in units of the step. At high quality the factor is about
1 everywhere; at low quality almost all coefficients are far from a jump and pass nothing, and a few pass much. On
average that is the slope of the codec; passing all gradients on, or those of the coefficients that survive, is not.
"""

import math

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from codeprior.kernels._canvas import gathered

from ._canvas import Canvas

_NOISE = 2.5
_WIDEST = 0.5  # from here on the bumps overlap to 1, within 1.5 %


def soft_canvas(canvas: Canvas, tables: Tensor) -> Tensor:
    """Gives unit images, `b 3 H W`, with the gradient of a softened JPEG; `tables` is `b 2 8 8`."""
    height, width = canvas.pixels.shape[-2:]
    tall, wide = (-(-side // 16) * 16 for side in (height, width))
    rows = np.minimum(np.arange(tall)[None], canvas.sizes[:, :1] - 1)
    columns = np.minimum(np.arange(wide)[None], canvas.sizes[:, 1:] - 1)
    levels = gathered(canvas.pixels, canvas.send(rows), canvas.send(columns)).clamp(0, 1) * 255
    red, green, blue = levels.unbind(1)
    steps = tables.float()
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    chroma = torch.stack([(blue - luma) / 1.772, (red - luma) / 1.402], 1)
    luma = (_through(luma[:, None] - 128, steps[:, 0])[:, 0] + 128).clamp(0, 255)
    chroma = _through(F.avg_pool2d(chroma, 2), steps[:, 1]).clamp(-128, 127)
    blue, red = F.interpolate(chroma, scale_factor=2, mode="bilinear", align_corners=False).unbind(1)
    image = torch.stack([luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue], 1)
    return (image.clamp(0, 255) / 255)[..., :height, :width]


def _through(planes: Tensor, table: Tensor) -> Tensor:
    basis = _orthonormal().to(planes)
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


def _orthonormal() -> Tensor:
    place, wave = torch.arange(8.0), torch.arange(8.0)[:, None]
    basis = torch.cos((2 * place + 1) * wave * (math.pi / 16)) / 2
    basis[0] /= math.sqrt(2)
    return basis

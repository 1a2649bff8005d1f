"""A differentiable stand-in for JPEG, of which only the gradient is used; the values come from the exact form.

The linear parts keep their true derivative. The rounding of a coefficient u, in units of its step, passes the gradient
with the factor `u² / (u² + ¼²)`: about 1 where the coefficient survives, about 0 in the dead zone around 0, where a
small change of the input leaves nothing in the output.
"""

import math

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from codeprior.kernels._canvas import gathered

from ._canvas import Canvas

_DEAD = 0.25**2


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
    luma = _through(luma[:, None] - 128, steps[:, 0])[:, 0] + 128
    chroma = _through(F.avg_pool2d(chroma, 2), steps[:, 1])
    blue, red = F.interpolate(chroma, scale_factor=2, mode="bilinear", align_corners=False).unbind(1)
    image = torch.stack([luma + 1.402 * red, luma - 0.344136 * blue - 0.714136 * red, luma + 1.772 * blue], 1)
    return (image / 255)[..., :height, :width]


def _through(planes: Tensor, table: Tensor) -> Tensor:
    basis = _orthonormal().to(planes)
    blocks = rearrange(planes, "b c (h y) (w x) -> b c h w y x", y=8, x=8)
    units = basis @ blocks @ basis.mT / table[:, None, None, None]
    passed = units.detach() ** 2
    passed = passed / (passed + _DEAD)
    rounded = units.detach().round() + passed * (units - units.detach())
    back = basis.mT @ (rounded * table[:, None, None, None]) @ basis
    return rearrange(back, "b c h w y x -> b c (h y) (w x)")


def _orthonormal() -> Tensor:
    place, wave = torch.arange(8.0), torch.arange(8.0)[:, None]
    basis = torch.cos((2 * place + 1) * wave * (math.pi / 16)) / 2
    basis[0] /= math.sqrt(2)
    return basis

"""JPEG on a batch: libjpeg's values on any device, and in mode `diff` the gradient of a softened JPEG."""

import numpy as np
import torch

from codeprior.kernels.jpeg import jpeg, quality_tables

from ._canvas import Canvas
from ._soft_jpeg import soft_canvas


def jpeg_canvas(canvas: Canvas, quality: np.ndarray, mode: str) -> Canvas:
    """Gives each image through JPEG of its own quality: unit floats on the 8-bit grid."""
    tables = canvas.send(quality_tables(quality))
    result = jpeg(canvas.pixels, canvas.extent(), tables)
    if mode == "diff" and torch.is_grad_enabled() and canvas.pixels.requires_grad:
        soft = soft_canvas(canvas, tables)
        result = result + (soft - soft.detach())
    return Canvas(result, canvas.sizes)

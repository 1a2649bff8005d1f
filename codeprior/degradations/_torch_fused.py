"""A blur and the bilinear resizing after it in one kernel launch, for a batch on a device that has the kernel."""

import numpy as np
import torch

from codeprior.kernels._choose import choose
from codeprior.kernels.blur_resize import blur_resize

from ._canvas import Canvas
from ._kernels import NEGLIGIBLE, kernel_matrices
from .record import Values


def fuses(canvas: Canvas, mode: str) -> bool:
    """Says whether the batch goes through the fused kernel; what it cannot do is done step by step."""
    return mode == "fast" and choose("blur_resize", None, canvas.pixels.device.type) == "triton"


def resized_at_once(canvas: Canvas, new: np.ndarray, blur: Values | None = None) -> Canvas:
    """Gives each image resized bilinearly by OpenCV's rule, blurred before where a blur is given.

    Args:
        canvas: The images.
        new: Height and width of each result: `b 2`.
        blur: Rows of a blur's values.

    Returns:
        The results on a canvas of the largest size.
    """
    kernels = np.ones((len(new), 1, 1)) if blur is None else kernel_matrices(blur)
    kernels[np.abs(kernels) < NEGLIGIBLE] = 0
    height, width = (int(side) for side in new.max(0))
    result = blur_resize(
        canvas.pixels,
        canvas.send(kernels.astype(np.float32)),
        sizes=canvas.extent(),
        targets=canvas.send(new, torch.int32),
        canvas=(height, width),
    )
    return Canvas(result, new)

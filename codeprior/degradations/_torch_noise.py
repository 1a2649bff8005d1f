"""Noise of a batch in torch: bits, a table and single operations, so that every device gives the CPU's numbers."""

import numpy as np
from torch import Tensor

from ._canvas import Canvas
from ._draws import mix
from ._normal import quantile_table
from .record import Values


def gaussian_canvas(canvas: Canvas, values: Values, clip: bool) -> Canvas:
    """Gives each image with its normal noise."""
    field = normal_canvas(canvas, values["key"], values["grey"])
    noise = field * canvas.per_sample(values["sigma"].astype(np.float32)) / 255
    noisy = canvas.pixels + noise
    return Canvas(noisy.clamp(0, 1) if clip else noisy, canvas.sizes)


def normal_canvas(canvas: Canvas, keys: np.ndarray, grey: np.ndarray) -> Tensor:
    """Gives the normal field of each sample's key on the canvas: `b 3 H W`."""
    from codeprior.kernels.normal_field import normal_field

    height, width = canvas.pixels.shape[-2:]
    return normal_field(
        canvas.send(_mixed(keys)),
        canvas.send(np.asarray(grey, bool)),
        sizes=canvas.extent(),
        quantiles=canvas.send(np.stack(quantile_table())),
        canvas=(height, width),
    )


def uniform_canvas(canvas: Canvas, keys: np.ndarray, grey: np.ndarray) -> Tensor:
    """Gives 32 random bits for each place of the canvas, as whole numbers: `b 3 H W`."""
    from codeprior.kernels.normal_field.reference import places, random_bits, shifted

    height, width = canvas.pixels.shape[-2:]
    place = places(canvas.send(np.asarray(grey, bool)), canvas.extent(), (height, width))
    return shifted(random_bits(canvas.send(_mixed(keys)), place + 1), 32)


def _mixed(keys: np.ndarray) -> np.ndarray:
    return mix(np.asarray(keys, np.int64).view(np.uint64)).view(np.int64)

"""Pixels read at places that differ from image to image of a batch."""

import torch
from torch import Tensor


def gathered(planes: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Gives `planes[b, :, rows[b], columns[b]]` on the grid of both.

    Args:
        planes: `b c H W`.
        rows: Places along the height, whole numbers: `b r`.
        columns: Places along the width, whole numbers: `b s`.

    Returns:
        `b c r s`.
    """
    samples = torch.arange(len(planes), device=planes.device)[:, None, None, None]
    channels = torch.arange(planes.shape[1], device=planes.device)[None, :, None, None]
    return planes[samples, channels, rows[:, None, :, None], columns[:, None, None, :]]

"""The meaning of cropping and resizing, box by box."""

import torch
from torch import Tensor
from torch.nn import functional as F


def crop_resize_reference(
    image: Tensor, boxes: Tensor, size: tuple[int, int], outside: float, antialias: bool
) -> Tensor:
    """Gives each box of an image at one size.

    Args:
        image: `c h w`.
        boxes: `n 4`, int64: left, top, right and bottom; right and bottom are inside.
        size: Rows and columns.
        outside: The value of places outside the image, and of boxes that hold no pixel.
        antialias: Whether all pixels of a box count where it shrinks.
    """
    rows, columns = image.shape[1:]
    image = image if image.is_floating_point() else image.float()
    patches = [image.new_zeros(0, len(image), *size)]
    for left, top, right, bottom in boxes.tolist():
        part = image[None, :, max(top, 0) : max(bottom + 1, 0), max(left, 0) : max(right + 1, 0)]
        if not part.numel():
            patches.append(image.new_full((1, len(image), *size), outside))
            continue
        edges = (max(-left, 0), max(right + 1 - columns, 0), max(-top, 0), max(bottom + 1 - rows, 0))
        part = F.pad(part, edges, value=outside) if any(edges) else part
        patches.append(F.interpolate(part, size=size, mode="bilinear", antialias=antialias))
    return torch.cat(patches)

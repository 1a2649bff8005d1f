"""The public cropping and resizing: checks the shapes, chooses an implementation, and calls it."""

import torch
from torch import Tensor

from codeprior.kernels._choose import choose
from codeprior.kernels.crop_resize import compiled
from codeprior.kernels.crop_resize.reference import crop_resize_reference


def crop_resize(image: Tensor, boxes: Tensor, size: int, *, outside: float = 0.0, impl: str | None = None) -> Tensor:
    """Gives many boxes of one image as squares of one size, bilinear, antialiased where they shrink.

    Args:
        image: `c h w`, floats.
        boxes: `n 4`, int64, pixels: left, top, right and bottom; right and bottom are inside.
        size: Side of the squares, pixels.
        outside: The value of places outside the image, and of boxes that hold no pixel.
        impl: Implementation by name; None chooses (see `explain`).

    Returns:
        `n c size size`: for each box what `interpolate(mode="bilinear", antialias=True)` gives.

    Raises:
        ValueError: The shapes or types do not fit.
        ImplUnavailable: The implementation asked for by name cannot run here.
    """
    if image.ndim != 3 or boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype != torch.int64 or size < 1:
        raise ValueError(
            f"crop_resize: expected an image (c, h, w), int64 boxes (n, 4) and a side of at least 1, got "
            f"{tuple(image.shape)}, {boxes.dtype} {tuple(boxes.shape)} and {size}."
        )
    unfit = _why_unfit(image, boxes)
    if choose("crop_resize", impl, str(image.device), unfit=unfit, small=len(boxes) < 16) == "reference":
        return crop_resize_reference(image, boxes, size, outside)
    return crop_resize_op(image, boxes, size, outside)


@torch.library.custom_op("codeprior::crop_resize", mutates_args=())
def crop_resize_op(image: Tensor, boxes: Tensor, size: int, outside: float) -> Tensor:
    """The compiled cropping; without gradients."""
    return compiled.crop(image, boxes, size, outside)


@crop_resize_op.register_fake
def _(image, boxes, size, outside) -> Tensor:
    return torch.empty(len(boxes), size, size, len(image), dtype=image.dtype).permute(0, 3, 1, 2)


def _why_unfit(image: Tensor, boxes: Tensor) -> dict[str, str]:
    if image.dtype != torch.float32:
        return {"compiled": "it sums float32"}
    if torch.is_grad_enabled() and image.requires_grad:
        return {"compiled": "it gives no gradients"}
    return {} if boxes.device == image.device else {"compiled": "the boxes lie on another device"}

"""The public cropping and resizing: checks the shapes, chooses an implementation, and calls it."""

import torch
from torch import Tensor

from codeprior.kernels._choose import choose
from codeprior.kernels._exporting import exporting
from codeprior.kernels.crop_resize import compiled
from codeprior.kernels.crop_resize.reference import crop_resize_reference


def crop_resize(
    image: Tensor,
    boxes: Tensor,
    size: int | tuple[int, int],
    *,
    outside: float = 0.0,
    antialias: bool = True,
    impl: str | None = None,
) -> Tensor:
    """Gives many boxes of one image at one size, bilinear, antialiased where they shrink.

    Args:
        image: `c h w`, floats, or 8-bit levels of type uint8.
        boxes: `n 4`, int64, pixels: left, top, right and bottom; right and bottom are inside.
        size: Side of the squares, pixels; or rows and columns.
        outside: The value of places outside the image, and of boxes that hold no pixel.
        antialias: Whether all pixels of a box count where it shrinks, or only the nearest two along each side.
        impl: Implementation by name; None chooses (see `explain`).

    Returns:
        `n c rows columns`: for each box what `interpolate(mode="bilinear", antialias=antialias)` gives; of 8-bit levels
        float32, not rounded.

    Raises:
        ValueError: The shapes or types do not fit.
        ImplUnavailable: The implementation asked for by name cannot run here.
    """
    rows, columns = (size, size) if isinstance(size, int) else size
    if (
        image.ndim != 3
        or boxes.ndim != 2
        or boxes.shape[1] != 4
        or boxes.dtype != torch.int64
        or min(rows, columns) < 1
    ):
        raise ValueError(
            f"crop_resize: expected an image (c, h, w), int64 boxes (n, 4) and sides of at least 1, got "
            f"{tuple(image.shape)}, {boxes.dtype} {tuple(boxes.shape)} and {size}."
        )
    unfit = _why_unfit(image, boxes)
    if choose("crop_resize", impl, str(image.device), unfit=unfit, small=len(boxes) < 16) == "reference":
        return crop_resize_reference(image, boxes, (rows, columns), outside, antialias)
    # a detector calls it twelve times a photograph, and a call through a registered op takes longer to start
    run = crop_resize_op if torch.compiler.is_compiling() else compiled.crop
    return run(image, boxes, rows, columns, outside, antialias)


@torch.library.custom_op("codeprior::crop_resize", mutates_args=())
def crop_resize_op(image: Tensor, boxes: Tensor, rows: int, columns: int, outside: float, antialias: bool) -> Tensor:
    """The compiled cropping; without gradients."""
    return compiled.crop(image, boxes, rows, columns, outside, antialias)


@crop_resize_op.register_fake
def _(image, boxes, rows, columns, outside, antialias) -> Tensor:
    return torch.empty(len(boxes), rows, columns, len(image), dtype=torch.float32).permute(0, 3, 1, 2)


def _why_unfit(image: Tensor, boxes: Tensor) -> dict[str, str]:
    if exporting():
        return {"compiled": "an exported graph has PyTorch's own operators only"}
    if image.dtype not in (torch.float32, torch.uint8):
        return {"compiled": "it sums float32 or 8-bit levels"}
    if torch.is_grad_enabled() and image.requires_grad:
        return {"compiled": "it gives no gradients"}
    return {} if boxes.device == image.device else {"compiled": "the boxes lie on another device"}

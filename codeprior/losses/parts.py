"""Parts of an aligned face: eyes with their brows, and the mouth, as crops that losses and discriminators see enlarged.

They are a twentieth of the picture, and what a person looks at first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from codeprior.images import check_pixels
from codeprior.shapes import Image


@dataclass(frozen=True, slots=True)
class Part:
    """A square of a picture.

    Args:
        name: How it is called.
        x: Its centre, as a share of the width.
        y: Its centre, as a share of the height.
        side: As a share of the shorter side.
    """

    name: str
    x: float
    y: float
    side: float

    def __post_init__(self) -> None:
        if not (0 <= self.x <= 1 and 0 <= self.y <= 1 and 0 < self.side <= 1):
            raise ValueError(f"Part: {self.name!r} must have a centre in [0, 1] and a side in (0, 1], got {self}.")


FACE_PARTS = (
    Part("left eye", 193 / 512, 236 / 512, 100 / 512),
    Part("right eye", 319 / 512, 236 / 512, 100 / 512),
    Part("mouth", 257 / 512, 371 / 512, 130 / 512),
)
"""Both eyes with their brows, and the mouth, in a face that was aligned as `codeprior.photos` and FFHQ do it. Left and
right are the picture's."""


def crop_parts(
    images: Image, parts: Sequence[Part] = FACE_PARTS, *, size: int
) -> Float[Tensor, "batch parts 3 size size"]:
    """Cuts the same squares out of every picture, and resizes them bilinearly.

    Args:
        images: `b 3 H W`, any range.
        parts: What to cut out; beyond the border of a picture its outermost pixels go on.
        size: Side of the crops, pixels.

    Returns:
        `b parts 3 size size`, the range of the images; gradients flow back.

    Raises:
        TypeError: They are no floating-point images.
        ValueError: The images have another shape, there are no parts, or the size is not positive.
    """
    check_pixels("crop_parts", images)
    if not parts or size < 1:
        raise ValueError(f"crop_parts: expected at least one part and a positive size, got {len(parts)} and {size}.")
    height, width = images.shape[-2:]
    shorter = min(height, width)
    across = images.new_tensor([part.side * shorter / width for part in parts])
    down = images.new_tensor([part.side * shorter / height for part in parts])
    x = images.new_tensor([2 * part.x - 1 for part in parts])
    y = images.new_tensor([2 * part.y - 1 for part in parts])
    zero = torch.zeros_like(x)
    moves = torch.stack((torch.stack((across, zero, x), 1), torch.stack((zero, down, y), 1)), 1)
    grid = F.affine_grid(moves, [len(parts), 1, size, size], align_corners=False)
    # one grid, the parts below each other, so that each picture is read once
    grid = grid.reshape(1, len(parts) * size, size, 2).expand(len(images), -1, -1, -1)
    crops = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return crops.unflatten(2, (len(parts), size)).transpose(1, 2)

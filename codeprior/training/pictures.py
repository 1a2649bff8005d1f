"""From the bytes of a file to the square pixels of a network, by the same reader that restores photographs."""

import numpy as np
import torch
from einops import rearrange
from jaxtyping import UInt8
from PIL import Image as Pillow
from torch import Tensor


def fitted(content: bytes, name: str, size: int) -> UInt8[Tensor, "3 H W"]:
    """Gives an image at a size, RGB, 8-bit levels.

    Args:
        content: The whole file.
        name: What errors call it.
        size: Height and width, pixels; an image of another size is resized (antialiased bicubic).

    Raises:
        ValueError: It cannot be read, or is not square.
    """
    from codeprior.photos.files import decode

    pixels = decode(content, name).pixels
    height, width, _ = pixels.shape
    if width != height:
        raise ValueError(f"{name} is not square: {width}×{height} pixels")
    if width != size:
        pixels = np.array(Pillow.fromarray(pixels).resize((size, size), Pillow.Resampling.BICUBIC))
    return rearrange(torch.from_numpy(np.ascontiguousarray(pixels)), "H W c -> c H W").contiguous()

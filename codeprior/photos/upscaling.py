"""Photographs at twice or four times their size: what lies around the faces, by resampling or by a network in tiles.

A network sees one tile at a time, with enough of its surroundings that the answer does not depend on where the tile
ends; the surroundings are then cut off. Memory is that of the photograph, of the result and of one tile.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from PIL import Image as Pictures
from torch import Tensor
from torch.nn import functional as F

from codeprior.checkpoints import read_checkpoint
from codeprior.extras import needed
from codeprior.photos.faces.paste import Crop
from codeprior.shapes import Image

MAX_PIXELS = 256 * 10**6
"""Pixels that a result may have."""
_TILE, _AROUND = 192, 32


class Enlarger(Protocol):
    """Anything that enlarges pictures: `1 3 h w`, unit, to `1 3 h·scale w·scale`, unit."""

    @property
    def scale(self) -> int: ...
    def __call__(self, image: Image, /) -> Image: ...


class Upscaling(NamedTuple):
    """How a photograph is enlarged.

    Attributes:
        factor: 2 or 4.
        enlarger: The network for all but the faces; None resamples (Lanczos, three lobes).
    """

    factor: int
    enlarger: Enlarger | None = None


class SpandrelEnlarger:
    """A super-resolution network that spandrel knows, behind this library's interface.

    Args:
        descriptor: What spandrel made of a state dict, an `ImageModelDescriptor`.
        device: Where it runs.
    """

    def __init__(self, descriptor: Any, device: str | torch.device = "cpu"):
        self.scale, self.device = int(descriptor.scale), torch.device(device)
        self._descriptor = descriptor.to(self.device).eval()

    @torch.inference_mode()
    def __call__(self, image: Image) -> Image:
        """Enlarges a picture `1 3 h w`, unit."""
        return self._descriptor(image.to(self.device)).clamp(0, 1).cpu()


def load_enlarger(weights: str | Path, *, device: str | torch.device = "cpu") -> SpandrelEnlarger:
    """Gives the network of a published super-resolution checkpoint, such as those of Real-ESRGAN or SwinIR.

    Args:
        weights: The file; it is read as any foreign checkpoint is, without running anything in it.
        device: Where it runs.

    Raises:
        FileNotFoundError: There is no such file.
        ImportError: spandrel is not installed.
        ValueError: spandrel does not know its layout, or it does not enlarge RGB pictures.
    """
    spandrel = needed("spandrel", who="--background")
    read = read_checkpoint(weights)
    try:
        descriptor = spandrel.ModelLoader(device="cpu").load_from_state_dict(dict(read.tensors))
    except (spandrel.UnsupportedModelError, RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(
            f"load_enlarger: spandrel {spandrel.__version__} makes no model of {weights}: {reason}"
        ) from error
    channels = (getattr(descriptor, "input_channels", None), getattr(descriptor, "output_channels", None))
    if not isinstance(descriptor, spandrel.ImageModelDescriptor) or descriptor.scale < 2 or channels != (3, 3):
        found = f"{descriptor.purpose}, {descriptor.scale} times, channels {channels}"
        raise ValueError(f"load_enlarger: {weights} does not enlarge RGB pictures ({found}); give one that does.")
    return SpandrelEnlarger(descriptor, device)


def check_size(height: int, width: int, factor: int) -> None:
    """Refuses what would be too large a result.

    Args:
        height: Rows of the photograph, pixels.
        width: Columns of the photograph, pixels.
        factor: 2 or 4.

    Raises:
        ValueError: The result would have more than `MAX_PIXELS`.
    """
    if height * width * factor**2 > MAX_PIXELS:
        size = f"{width * factor}×{height * factor}"
        raise ValueError(
            f"would have {size} pixels when enlarged, more than the {MAX_PIXELS // 10**6} million accepted"
        )


def enlarged(
    pixels: UInt8[np.ndarray, "H W *c"], upscaling: Upscaling, *, tile: int = _TILE, around: int = _AROUND
) -> UInt8[np.ndarray, "h w *c"]:
    """Gives a picture at a larger size.

    Args:
        pixels: RGB or one channel, 8-bit levels; one channel is always resampled.
        upscaling: How much, and by what.
        tile: Side of a tile without its surroundings, pixels.
        around: Pixels on each side that it also sees, mirrored beyond the photograph's edges.

    Returns:
        8-bit levels, `factor` times as large. A network of another scale is brought to that factor by antialiased
        resampling.

    Raises:
        ValueError: The network gives another size than it says, or values that are not finite.
    """
    height, width = pixels.shape[:2]
    factor, enlarger = upscaling
    if enlarger is None or pixels.ndim == 2:
        picture = Pictures.fromarray(pixels)
        return np.array(picture.resize((width * factor, height * factor), Pictures.Resampling.LANCZOS))
    result = np.empty((height * factor, width * factor, 3), np.uint8)
    rows, columns = (_mirrored(side, around) for side in (height, width))
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            tall, wide = min(tile, height - top), min(tile, width - left)
            part = pixels[rows[top : top + tall + 2 * around]][:, columns[left : left + wide + 2 * around]]
            answer = _asked(enlarger, part, factor)
            inner = answer[:, around * factor :, around * factor :][:, : tall * factor, : wide * factor]
            place = result[top * factor : (top + tall) * factor, left * factor : (left + wide) * factor]
            place[...] = rearrange(inner * 255, "c h w -> h w c").round().to(torch.uint8).numpy()
    return result


def scaled_crop(crop: Crop, factor: int) -> Crop:
    """Gives a crop with its place in the photograph that is `factor` times as large."""
    shift = (factor - 1) / 2  # pixel edges are scaled, not centres
    return Crop(crop.image, crop.matrix * factor + np.array([[0, 0, shift], [0, 0, shift]]))


def _asked(enlarger: Callable[[Tensor], Tensor], part: np.ndarray, factor: int) -> Float[Tensor, "3 h w"]:
    image = rearrange(torch.from_numpy(np.ascontiguousarray(part)), "h w c -> 1 c h w").float() / 255
    answer, scale = enlarger(image), getattr(enlarger, "scale", factor)
    expected = (1, 3, image.shape[2] * scale, image.shape[3] * scale)
    if answer.shape != expected:
        raise ValueError(f"the network of the background gave {tuple(answer.shape)}, expected {expected}")
    if not bool(answer.isfinite().all()):
        raise ValueError("the network of the background gave values that are not finite")
    if scale != factor:
        size = [side * factor for side in image.shape[2:]]
        answer = F.interpolate(answer, size=size, mode="bicubic", antialias=True)
    return answer[0].clamp(0, 1)


def _mirrored(side: int, around: int) -> np.ndarray:
    """Gives the numbers of the lines that a network sees: those of the photograph, mirrored at its edges."""
    places = np.arange(-around, side + around)
    if side == 1:
        return np.zeros_like(places)
    places = np.abs(places) % (2 * side - 2)
    return np.minimum(places, 2 * side - 2 - places)

"""The two forms in which ops get images: a single image as pixels on the CPU, a batch of any sizes as a canvas.

*Planes* are `3 H W`, as tensors have them; *pixels* are `H W 3`, as OpenCV has them. A canvas is one tensor, in which
each image lies in the corner of a rectangle as large as the largest.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from .record import Values


class Canvas(NamedTuple):
    """A batch of images of their own sizes; what lies outside an image's size is undefined and never read.

    Sizes are kept on the host, so that no step has to wait for the device to read them.
    """

    pixels: Tensor
    sizes: NDArray[np.int64]

    def send(self, values: np.ndarray, dtype: torch.dtype | None = None) -> Tensor:
        """Gives host values as a tensor beside the pixels, without waiting for the device."""
        tensor = torch.from_numpy(np.ascontiguousarray(values))
        if self.pixels.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.pixels.device, dtype or tensor.dtype, non_blocking=True)

    def per_sample(self, values: np.ndarray, dtype: torch.dtype | None = None) -> Tensor:
        """Gives one number per sample, shaped to go with the pixels: `b 1 1 1`."""
        return self.send(values, dtype)[:, None, None, None]

    def extent(self) -> Tensor:
        """Gives the sizes beside the pixels: `b 2`, int32."""
        return self.send(self.sizes, torch.int32)

    @property
    def uniform(self) -> bool:
        """Whether all images have the size of the canvas."""
        return bool((self.sizes == self.pixels.shape[-2:]).all())

    def part(self, samples: NDArray[np.int64]) -> "Canvas":
        """Gives some of the samples."""
        return Canvas(self.pixels.index_select(0, self.send(samples)), self.sizes[samples])

    def inside(self) -> Tensor:
        """Says for each place of the canvas whether it belongs to the image: `b 1 H W`."""
        height, width = self.pixels.shape[-2:]
        rows = torch.arange(height, device=self.pixels.device)[None, None, :, None]
        columns = torch.arange(width, device=self.pixels.device)[None, None, None, :]
        return (rows < self.per_sample(self.sizes[:, 0])) & (columns < self.per_sample(self.sizes[:, 1]))


def merged(parts: Sequence[tuple[NDArray[np.int64], Canvas]]) -> Canvas:
    """Gives one canvas from parts and the places of their samples in it."""
    height, width = np.max([canvas.pixels.shape[-2:] for _, canvas in parts], 0)
    padded = [
        torch.nn.functional.pad(
            canvas.pixels, (0, width - canvas.pixels.shape[-1], 0, height - canvas.pixels.shape[-2])
        )
        for _, canvas in parts
    ]
    order = np.argsort(np.concatenate([samples for samples, _ in parts]))
    whole = Canvas(torch.cat(padded), np.concatenate([canvas.sizes for _, canvas in parts]))
    return whole.part(order)


def routed(
    canvas: Canvas, choice: NDArray[np.integer], branches: Sequence[Callable[[Canvas, NDArray], Canvas]]
) -> Canvas:
    """Sends each sample through one of several functions; which one is known on the host."""
    if len(choice) and (choice == choice[0]).all():
        return branches[int(choice[0])](canvas, np.arange(len(choice)))
    parts = []
    for number, branch in enumerate(branches):
        samples = np.flatnonzero(choice == number)
        if len(samples):
            parts.append((samples, branch(canvas.part(samples), samples)))
    return merged(parts)


def rows_of(values: Values, samples: NDArray[np.int64]) -> Values:
    """Gives the rows of some samples."""
    return {name: value[samples] for name, value in values.items()}


def pixels_from_planes(planes: np.ndarray) -> NDArray[np.float32]:
    """Gives unit pixels, `H W 3`, from planes of 8-bit levels or unit floats."""
    if planes.dtype == np.uint8:
        from ._native import unit_pixels

        return unit_pixels(np.ascontiguousarray(planes))
    return np.ascontiguousarray(rearrange(planes, "c h w -> h w c"))


def planes_from_pixels(pixels: np.ndarray, dtype: type) -> np.ndarray:
    """Gives planes, as floats unchanged or as 8-bit levels rounded half to even and clamped."""
    if dtype == np.uint8:
        pixels = levels(pixels)
    return np.ascontiguousarray(rearrange(pixels, "h w c -> c h w"))


def levels(pixels: np.ndarray) -> NDArray[np.uint8]:
    """Gives unit floats as 8-bit levels, rounded half to even and clamped."""
    return np.rint(np.clip(pixels, 0, 1) * np.float32(255)).astype(np.uint8)

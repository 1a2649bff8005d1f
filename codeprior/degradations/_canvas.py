"""Images of different sizes in one tensor: each in the corner of a canvas as large as the largest."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Canvas(NamedTuple):
    """A batch of images of their own sizes; what lies outside an image's size is undefined and never read.

    Sizes live on the host, so that no step has to ask the device for them.
    """

    pixels: Tensor
    sizes: NDArray[np.int64]

    def send(self, values: np.ndarray, dtype: torch.dtype | None = None) -> Tensor:
        """Gives host values as a tensor beside the pixels, without waiting for the device."""
        tensor = torch.from_numpy(np.ascontiguousarray(values))
        if self.pixels.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.pixels.device, dtype or tensor.dtype, non_blocking=True)

    @property
    def uniform(self) -> bool:
        """Whether all images have the size of the canvas."""
        return bool((self.sizes == self.pixels.shape[-2:]).all())

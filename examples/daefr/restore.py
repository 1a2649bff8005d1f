"""Restoring with a trained DAEFR: aligned faces in any of Python's picture types, or whole photographs.

from codeprior.recipes.daefr import load
restorer = load("small")
restorer(image)                      # an aligned face: PIL image, array or tensor, one or many
restorer.photograph(picture)         # faces found, restored and pasted back
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from PIL import Image as Pictures
from torch import Tensor
from torch.nn import functional as F

from codeprior.images import to_signed, to_unit
from codeprior.photos.restoration import Choices, Restored, restore_photo
from codeprior.shapes import Image


class Restorer:
    """A face restoration model with units, sizes and picture types taken care of.

    Args:
        model: A model as `examples.daefr.model` has them: called on signed images it gives `.logits`, and it has a
            `prior`.
        device: Where it runs.
        batch: Faces that go through it at once.
    """

    def __init__(self, model: Any, *, device: str | torch.device = "cpu", batch: int = 8):
        self.model = model.to(device).eval()
        self.device, self.batch = torch.device(device), batch

    @property
    def size(self) -> int:
        """Side of the faces that the model takes and gives, pixels."""
        return self.model.predictor.grid[0] * self.model.prior.stride

    def __call__(self, images: Any) -> Any:
        """Restores aligned faces, in the type in which they come.

        Args:
            images: A PIL image; an array `H W 3` of 8-bit levels or unit floats; a tensor `3 H W` or `b 3 H W`, unit;
                or a list of these. Other sizes than the model's are resized, by area where they shrink.

        Returns:
            The same type, `size` pixels a side; the same order for a list.

        Raises:
            TypeError: It is none of these.
            ValueError: The shape or range is not a picture's.
        """
        if isinstance(images, (list, tuple)):
            restored = self.examine(torch.cat([self._taken(image) for image in images])).images if images else []
            return [_given(one[None], image) for one, image in zip(restored, images, strict=True)]
        return _given(self.examine(self._taken(images)).images, images)

    @torch.no_grad()
    def examine(self, images: Image) -> Restored:
        """Restores aligned faces and says where the model guessed.

        Args:
            images: `b 3 size size`, unit.

        Returns:
            Images, unit, and the entropy of the predicted codes over its maximum, `b h w`, [0, 1].
        """
        restored, uncertainty = [], []
        for part in images.split(self.batch):
            logits = self.model(to_signed(part.to(self.device))).logits  # b h w k
            restored.append(to_unit(self.model.prior.decode(logits.argmax(-1))).cpu())
            shares = logits.float().log_softmax(-1)
            uncertainty.append((-(shares.exp() * shares).sum(-1) / np.log(logits.shape[-1])).clamp(0, 1).cpu())
        return Restored(torch.cat(restored), torch.cat(uncertainty))

    def photograph(self, picture: Any, *, choices: Choices | None = None, faces: Sequence[Any] | None = None) -> Any:
        """Restores the faces of a whole photograph.

        Args:
            picture: A PIL image or an array `H W 3` of 8-bit levels.
            choices: Which faces and how strongly.
            faces: Faces whose points are known; else the default detector finds them.

        Returns:
            The same type, the same size.

        Raises:
            ValueError: There is no face in it.
        """
        from codeprior.photos.faces import detector

        pixels = np.array(picture.convert("RGB")) if isinstance(picture, Pictures.Image) else np.asarray(picture)
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
            raise ValueError(f"photograph: expected H W 3 of 8-bit levels, got {pixels.dtype} of shape {pixels.shape}.")
        found = None if faces is not None else detector()
        restored = restore_photo(pixels, self, detector=found, faces=faces, choices=choices or Choices()).pixels
        return Pictures.fromarray(restored) if isinstance(picture, Pictures.Image) else restored

    def _taken(self, image: Any) -> Image:
        if isinstance(image, Pictures.Image):
            image = np.asarray(image.convert("RGB"))
        if isinstance(image, np.ndarray):
            if image.ndim != 3 or image.shape[2] != 3:
                raise ValueError(f"restorer: expected an array H W 3, got shape {image.shape}.")
            image = rearrange(torch.from_numpy(np.ascontiguousarray(image).copy()), "h w c -> c h w")
            image = image.float() / 255 if image.dtype == torch.uint8 else image
        if not isinstance(image, Tensor):
            raise TypeError(f"restorer: expected PIL images, arrays or tensors, got {type(image).__name__}.")
        image = image[None] if image.ndim == 3 else image
        if image.ndim != 4 or image.shape[1] != 3 or not image.is_floating_point():
            raise ValueError(
                f"restorer: expected unit floats b 3 H W, got {image.dtype} of shape {tuple(image.shape)}."
            )
        if image.numel() and not (image.min() >= -0.01 and image.max() <= 1.01):
            raise ValueError(
                f"restorer: expected unit values in [0, 1], got {image.min():.3g} to {image.max():.3g}; "
                "pass signed images through codeprior.to_unit, divide 8-bit levels by 255."
            )
        if image.shape[2:] == (self.size, self.size):
            return image.float()
        size = (self.size, self.size)
        if min(image.shape[2:]) >= self.size:
            return F.interpolate(image.float(), size=size, mode="area")
        return F.interpolate(image.float(), size=size, mode="bicubic", antialias=True).clamp(0, 1)


def load(name: str | Path = "small", *, device: str | torch.device = "cpu", batch: int = 8) -> Restorer:
    """Gives a restorer with trained weights.

    Args:
        name: `small`, the embedded prior (128 pixels, trained on faces under a non-commercial licence), or the path of
            a weights file that `codeprior.save` or `codeprior convert` wrote.
        device: Where it runs.
        batch: Faces that go through it at once.

    Raises:
        FileNotFoundError: There is no such file; nothing is ever downloaded here.
        ValueError: The file holds no restoration model of this recipe.
    """
    from codeprior.weights import load as load_module

    from .model import DAEFR, SingleEncoder

    path = Path(__file__).parent / "weights" / f"daefr_{name}.safetensors" if name == "small" else Path(name)
    model = load_module(path, device=device)
    # not by class: the same files are two packages, `examples` and `codeprior.recipes`
    if type(model).__name__ not in (DAEFR.__name__, SingleEncoder.__name__):
        raise ValueError(f"load: {path} holds a {type(model).__name__}; a DAEFR or SingleEncoder restores faces.")
    return Restorer(model, device=device, batch=batch)


def _given(restored: Image, like: Any) -> Any:
    if isinstance(like, Tensor):
        return restored[0] if like.ndim == 3 else restored
    levels = rearrange(restored[0], "c h w -> h w c")
    if isinstance(like, np.ndarray) and like.dtype != np.uint8:
        return levels.numpy().astype(like.dtype)
    levels = (levels * 255).round().to(torch.uint8).numpy()
    return Pictures.fromarray(levels) if isinstance(like, Pictures.Image) else levels

"""A model made usable: faces in any of Python's picture types, in batches, or whole photographs.

A model of any family restores here when it has `size`, `scale`, `stride` and `restore(signed) -> signed`. The restorer
does for all of them what surrounds the network: picture types, units, sizes, batches and the map of uncertainty.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from PIL import Image as Pictures
from torch import Tensor, nn
from torch.nn import functional as F

from codeprior.images import to_signed, to_unit
from codeprior.photos.restoration import Choices, Restored, restore_photo
from codeprior.shapes import Image, Logits


class Restorer:
    """A face restoration model with units, sizes and picture types taken care of.

    Args:
        model: Has `size`, the side of the faces that it takes in pixels; `scale`, the side that it gives over the side
            that it takes (1 where it is missing); and `restore(signed) -> signed`, `b 3 size size` to
            `b 3 size·scale size·scale`. Where calling it gives `.logits`, the restorer can say how sure it was.
        device: Where it runs.
        batch: Faces that go through it at once.

    Raises:
        TypeError: The model has no `restore` or no size.
    """

    def __init__(self, model: nn.Module, *, device: str | torch.device = "cpu", batch: int = 8):
        if not callable(getattr(model, "restore", None)):
            raise TypeError(
                f"Restorer: expected a model with restore(signed), got {type(model).__name__}; see docs/concepts."
            )
        self.model: Any = model.to(device).eval()
        self.device, self.batch = torch.device(device), batch
        self.size = _size(model)
        self.scale = int(getattr(model, "scale", 1))

    def __repr__(self) -> str:
        """Gives the model's class, its sizes and where it runs, in one line."""
        sizes = f"{self.size} px" if self.scale == 1 else f"{self.size} to {self.size * self.scale} px"
        return f"Restorer({type(self.model).__name__}, {sizes}, {self.device}, batch {self.batch})"

    def __call__(self, images: Any) -> Any:
        """Restores aligned faces, in the type in which they come.

        Args:
            images: A PIL image; an array `H W 3` of 8-bit levels or unit floats; a tensor `3 H W` or `b 3 H W`, unit or
                uint8; or a list of these. Other sizes than the model's are resized, by area where they shrink.

        Returns:
            The same type, `size · scale` pixels a side; the same order for a list.

        Raises:
            TypeError: It is none of these.
            ValueError: The shape or range is not a picture's.
        """
        if isinstance(images, (list, tuple)):
            if not images:
                return []
            restored = self._restored(torch.cat([self._taken(image) for image in images]), uncertainty=False).images
            return [_given(one[None], image) for one, image in zip(restored, images, strict=True)]
        return _given(self._restored(self._taken(images), uncertainty=False).images, images)

    def examine(self, images: Image) -> Restored:
        """Restores aligned faces and says where the model guessed.

        Args:
            images: `b 3 H W`, unit or uint8; resized as in a call.

        Returns:
            Images, unit, and the entropy of the predicted codes over its maximum, `b h w`, [0, 1], the mean over the
            tables of residual codes; None where the model gives no logits.

        Raises:
            ValueError: The shape or range is not a picture's.
        """
        return self._restored(self._taken(images), uncertainty=True)

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

    @torch.no_grad()
    def _restored(self, images: Image, *, uncertainty: bool) -> Restored:
        restored, doubts = [], []
        for part in images.split(self.batch):
            image, logits = self._answer(to_signed(part.to(self.device)), uncertainty)
            restored.append(to_unit(image).cpu())
            if logits is not None:
                doubts.append(entropy(logits).cpu())
        return Restored(torch.cat(restored), torch.cat(doubts) if doubts else None)

    def _answer(self, signed: Image, uncertainty: bool) -> tuple[Image, Logits | None]:
        """Gives what the model restores and, where they are wanted, the logits on the way to it."""
        if not uncertainty:
            return self.model.restore(signed), None
        seen: list[Any] = []
        # most models predict inside `restore`; listening there spares a second run of the encoders
        hook = self.model.register_forward_hook(lambda _, __, given: seen.append(given))
        try:
            restored = self.model.restore(signed)
        finally:
            hook.remove()
        return restored, getattr(seen[-1] if seen else _called(self.model, signed), "logits", None)

    def _taken(self, image: Any) -> Image:
        if isinstance(image, Pictures.Image):
            image = np.asarray(image.convert("RGB"))
        if isinstance(image, np.ndarray):
            if image.ndim != 3 or image.shape[2] != 3:
                raise ValueError(f"restorer: expected an array H W 3, got shape {image.shape}.")
            image = rearrange(torch.from_numpy(np.ascontiguousarray(image).copy()), "h w c -> c h w")
        if not isinstance(image, Tensor):
            raise TypeError(f"restorer: expected PIL images, arrays or tensors, got {type(image).__name__}.")
        image = image.float() / 255 if image.dtype == torch.uint8 else image
        image = image[None] if image.ndim == 3 else image
        if image.ndim != 4 or image.shape[1] != 3 or not image.is_floating_point():
            raise ValueError(
                f"restorer: expected unit floats or uint8, b 3 H W, got {image.dtype} of shape {tuple(image.shape)}."
            )
        if image.numel() and not (image.min() >= -0.01 and image.max() <= 1.01):
            raise ValueError(
                f"restorer: expected unit values in [0, 1], got {image.min():.3g} to {image.max():.3g}; "
                "pass signed images through codeprior.to_unit, divide 8-bit levels by 255."
            )
        return _resized(image.float(), self.size)


def entropy(logits: Logits | Float[Tensor, "b m h w k"]) -> Float[Tensor, "b h w"]:
    """Gives the entropy of predicted codes over its maximum, a measure of how far a model guesses.

    Args:
        logits: `b h w k`, or `b m h w k` of residual codes; the mean over the `m` tables is then given.

    Returns:
        `b h w`, [0, 1].

    Raises:
        ValueError: The logits have other dimensions.
    """
    if logits.ndim not in (4, 5):
        raise ValueError(f"entropy: expected logits b h w k or b m h w k, got shape {tuple(logits.shape)}.")
    shares = logits.float().log_softmax(-1)
    doubt = (-(shares.exp() * shares).sum(-1) / np.log(logits.shape[-1])).clamp(0, 1)
    return doubt if logits.ndim == 4 else doubt.mean(1)


def _size(model: Any) -> int:
    size = getattr(model, "size", None)
    if size is None and hasattr(model, "predictor") and hasattr(model, "prior"):
        size = model.predictor.grid[0] * model.prior.stride  # the predictor's grid decides, for models without a size
    if not isinstance(size, int):
        raise TypeError(f"Restorer: {type(model).__name__} does not say its size; give it `size`, pixels a side.")
    return size


def _called(model: Any, signed: Image) -> Any:
    """Gives what a call of the model gives, or None for a model that can only restore."""
    return None if type(model).forward is nn.Module.forward else model(signed)


def _resized(image: Image, size: int) -> Image:
    if image.shape[2:] == (size, size):
        return image
    if min(image.shape[2:]) >= size:
        return F.interpolate(image, size=(size, size), mode="area")
    return F.interpolate(image, size=(size, size), mode="bicubic", antialias=True).clamp(0, 1)


def _given(restored: Image, like: Any) -> Any:
    if isinstance(like, Tensor):
        restored = (restored * 255).round().to(torch.uint8) if like.dtype == torch.uint8 else restored
        return restored[0] if like.ndim == 3 else restored
    levels = rearrange(restored[0], "c h w -> h w c")
    if isinstance(like, np.ndarray) and like.dtype != np.uint8:
        return levels.numpy().astype(like.dtype)
    levels = (levels * 255).round().to(torch.uint8).numpy()
    return Pictures.fromarray(levels) if isinstance(like, Pictures.Image) else levels

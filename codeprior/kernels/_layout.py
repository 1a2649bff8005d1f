"""How tensors lie in memory: one view for three layouts of vectors, and features whose channels lie together.

`(n, d)`, `(b, t, d)` and `(b, d, h, w)` are read as `(b, s, d)` in place.
"""

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor

from codeprior.kernels._exporting import exporting

_MANY = 64 * 64  # places from which rounding shows


def as_rows(latent: Tensor) -> Tensor:
    """Gives the vectors of a latent as `(b, s, d)`, without a copy where the strides allow."""
    if latent.ndim == 4:
        return rearrange(latent, "b d h w -> b (h w) d")
    return latent[None] if latent.ndim == 2 else latent


def like_latent(rows: Tensor, latent: Tensor) -> Tensor:
    """Gives rows `(b, s, d)` back in the latent's layout."""
    if latent.ndim == 4:
        return rearrange(rows, "b (h w) d -> b d h w", h=latent.shape[2], w=latent.shape[3])
    return rows[0] if latent.ndim == 2 else rows


def like_grid(values: Tensor, latent: Tensor) -> Tensor:
    """Gives one value per row, `(b, s)`, back on the latent's grid: `(n,)`, `(b, t)` or `(b, h, w)`."""
    if latent.ndim == 4:
        return rearrange(values, "b (h w) -> b h w", h=latent.shape[2], w=latent.shape[3])
    return values[0] if latent.ndim == 2 else values


def check_width(op: str, latent: Tensor, width: int) -> None:
    """Raises a ValueError where a latent does not carry vectors of this width."""
    found = latent.shape[1 if latent.ndim == 4 else -1] if latent.ndim in (2, 3, 4) else None
    if found != width:
        raise ValueError(
            f"{op}: expected latent (n, {width}), (b, t, {width}) or (b, {width}, h, w) for codes of width {width}, "
            f"got {tuple(latent.shape)}."
        )


def check_floating(op: str, **tensors: Tensor) -> None:
    """Raises a TypeError where an argument is no tensor of floating-point numbers."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            found = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise TypeError(f"{op}: expected {name} as a tensor of floating-point numbers, got {found}.")


def channels_together(feature: Tensor) -> Tensor:
    """Gives a feature `b c h w` whose channels lie side by side, without a copy where they do so already."""
    # a part cut out of a channels_last feature is read where it lies
    together = feature.stride(1) == 1 and feature.stride(3) >= feature.shape[1]
    return feature if together else feature.contiguous(memory_format=torch.channels_last)


def places_together(feature: Tensor) -> Tensor:
    """Gives a feature `b c h w` to normalise: on the CPU, one of many places has each channel's places side by side.

    PyTorch's GroupNorm sums channels_last features there one place after another. Of 512×512 places it is off by 3e-4
    of the deviation, of 128×128 by 1e-5, and with each channel's places together by 6e-7.
    """
    if exporting() or feature.device.type != "cpu" or feature.is_contiguous():
        return feature
    return feature.contiguous() if feature.shape[2] * feature.shape[3] >= _MANY else feature


def why_unfit_for_cpp(tensors: Sequence[Tensor]) -> dict[str, str]:
    """Gives why a convolution in C++, which multiplies float32 and records no gradients, cannot read these tensors."""
    if exporting():
        return {"compiled": "an exported graph has PyTorch's own operators only"}
    if any(tensor.dtype != torch.float32 for tensor in tensors):
        return {"compiled": "it multiplies float32"}
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return {"compiled": "it gives no gradients"}
    if torch.is_autocast_enabled(tensors[0].device.type):
        return {"compiled": "autocast asks for half precision"}
    return {}

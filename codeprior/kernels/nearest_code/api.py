"""The public lookup: checks the shapes, chooses an implementation, and calls it."""

import torch
from einops import rearrange
from torch import Tensor

from codeprior.kernels._choose import choose
from codeprior.kernels.nearest_code.reference import nearest_rows


def nearest_code(latent: Tensor, codebook: Tensor, *, impl: str | None = None, mode: str = "exact") -> Tensor:
    """Gives the index of the nearest code for each vector: the float64 argmin, lowest index on ties.

    Args:
        latent: `(n, d)`, `(b, t, d)` or `(b, d, h, w)`; float32, bfloat16, float16 or float64; any strides.
        codebook: `(k, d)`, on the same device.
        impl: Implementation by name; None chooses (see `explain`).
        mode: `"exact"`, or `"fast"`, which skips the certificate and may return a near neighbour.

    Returns:
        int64 indices in [0, k), `(n,)`, `(b, t)` or `(b, h, w)`. A vector with a NaN gets 0.

    Raises:
        ValueError: The shapes do not fit, the codebook is empty, or the mode is unknown.
        ImplUnavailable: The implementation asked for by name cannot run here.
    """
    if mode not in ("exact", "fast"):
        raise ValueError(f"nearest_code: expected mode 'exact' or 'fast', got {mode!r}.")
    if codebook.ndim != 2 or 0 in codebook.shape:
        raise ValueError(f"nearest_code: expected a codebook (k, d) that is not empty, got {tuple(codebook.shape)}.")
    width = latent.shape[1 if latent.ndim == 4 else -1] if latent.ndim in (2, 3, 4) else None
    if width != codebook.shape[1]:
        raise ValueError(
            f"nearest_code: expected latent (n, {codebook.shape[1]}), (b, t, {codebook.shape[1]}) or "
            f"(b, {codebook.shape[1]}, h, w) for a codebook {tuple(codebook.shape)}, got {tuple(latent.shape)}."
        )
    choose("nearest_code", impl, reasons={"reference": lambda: None})
    with torch.no_grad():
        if latent.ndim == 4:
            batch, _, height, _ = latent.shape
            indices = nearest_rows(rearrange(latent, "b d h w -> (b h w) d"), codebook)
            return rearrange(indices, "(b h w) -> b h w", b=batch, h=height)
        if latent.ndim == 3:
            return rearrange(
                nearest_rows(rearrange(latent, "b t d -> (b t) d"), codebook), "(b t) -> b t", b=latent.shape[0]
            )
        return nearest_rows(latent, codebook)

"""The public lookup: checks the shapes, chooses an implementation, and calls it.

A graph that `torch.export` makes holds no operator of this library: see `exported`.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from codeprior.kernels._choose import choose
from codeprior.kernels._exporting import exporting
from codeprior.kernels._layout import as_rows, check_floating, check_width, like_grid, like_latent
from codeprior.kernels.nearest_code import exported, fused, ops

_SMALL = 2**22  # multiplications, for which every implementation takes less than a millisecond


class Lookup(NamedTuple):
    """What `lookup` gives."""

    indices: Tensor
    """int64, on the latent's grid."""
    codes: Tensor
    """The chosen rows, in the latent's shape, type and memory layout; NaN for a vector that is not finite."""
    distances: Tensor
    """|x − c|² of each vector, float32 (float64 for float64), on the latent's grid; NaN for one that is not finite."""
    counts: Tensor
    """How often each code was chosen, `(k,)`, int64."""


def nearest_code(latent: Tensor, codebook: Tensor, *, impl: str | None = None, mode: str = "exact") -> Tensor:
    """Gives the index of the nearest code for each vector: the float64 argmin, lowest index on ties.

    Args:
        latent: `(n, d)`, `(b, t, d)` or `(b, d, h, w)`; float32, bfloat16, float16 or float64; any strides.
        codebook: `(k, d)`, on the same device.
        impl: Implementation by name; None chooses (see `explain`).
        mode: `"exact"`, or `"fast"`, which does not settle near ties. On the CPU about 1 vector in 50,000 then gets a
            code that is farther, by no more than float32 rounding; on a GPU 1 in 1000, by no more than float16
            rounding.

    Returns:
        int64 indices in [0, k), `(n,)`, `(b, t)` or `(b, h, w)`. A vector that is not finite gets 0, and a code
            that is not finite is never chosen before another.

    Raises:
        TypeError: Latent or codebook hold integers, or are no tensors.
        ValueError: The shapes do not fit, the codebook is empty, or the mode is unknown.
        ImplUnavailable: The implementation asked for by name cannot run here.
    """
    name = _check("nearest_code", latent, codebook, impl, mode)
    rows = as_rows(latent.detach())
    if exporting():
        return like_grid(exported.nearest_rows(rows, codebook.detach()), latent)
    op = fused.nearest_code_triton if name == "triton" else ops.nearest_code_op
    return like_grid(op(rows, codebook.detach(), name, mode == "exact"), latent)


def lookup(latent: Tensor, codebook: Tensor, *, impl: str | None = None, mode: str = "exact") -> Lookup:
    """Gives the nearest code for each vector: its index, the code itself, the distance, and how the codes are used.

    Args:
        latent: `(n, d)`, `(b, t, d)` or `(b, d, h, w)`; float32, bfloat16, float16 or float64; any strides.
        codebook: `(k, d)`, on the same device.
        impl: Implementation by name; None chooses (see `explain`).
        mode: `"exact"` or `"fast"`, as for `nearest_code`.

    Returns:
        indices: int64 in [0, k), `(n,)`, `(b, t)` or `(b, h, w)`.
        codes: As the latent; their gradient goes to the codebook alone.
        distances: |x − c|², on the grid of the indices; their gradient goes to latent and codebook.
            A vector that holds a NaN or an infinity gets index 0, and its codes and distance are NaN; so do all where
            no code is finite.
        counts: `(k,)`, int64.

    Raises:
        TypeError: Latent or codebook hold integers, or are no tensors.
        ValueError: The shapes do not fit, the codebook is empty, or the mode is unknown.
        ImplUnavailable: The implementation asked for by name cannot run here.
    """
    name = _check("lookup", latent, codebook, impl, mode)
    if exporting():
        codes, distances, indices, counts = exported.exchange(as_rows(latent), codebook)
    else:
        op = fused.lookup_triton if name == "triton" else ops.lookup_op
        codes, distances, indices, counts = op(as_rows(latent), codebook, name, mode == "exact")
    return Lookup(like_grid(indices, latent), like_latent(codes, latent), like_grid(distances, latent), counts)


def _check(op: str, latent: Tensor, codebook: Tensor, impl: str | None, mode: str) -> str:
    if mode not in ("exact", "fast"):
        raise ValueError(f"{op}: expected mode 'exact' or 'fast', got {mode!r}.")
    check_floating(op, latent=latent, codebook=codebook)
    if codebook.ndim != 2 or 0 in codebook.shape:
        raise ValueError(f"{op}: expected a codebook (k, d) that is not empty, got {tuple(codebook.shape)}.")
    check_width(op, latent, codebook.shape[1])
    if latent.device != codebook.device:
        raise ValueError(f"{op}: expected latent and codebook on one device, got {latent.device}, {codebook.device}.")
    unfit: dict[str, str] = {}
    if torch.float64 in (latent.dtype, codebook.dtype):
        reason = "it screens float32 and half precision, not float64"
        unfit = {"triton": reason, "compiled": reason}
    elif codebook.shape[1] > 512:
        unfit = {"triton": "its codes are at most 512 wide"}
    # while tracing the sizes are symbols, and a compiler runs anyway
    small = not torch.compiler.is_compiling() and latent.numel() * len(codebook) < _SMALL
    return choose("nearest_code", impl, str(latent.device), unfit=unfit, small=small)

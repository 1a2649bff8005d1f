"""All stages of a residual codebook: each finds the nearest code of what those before it have left over."""

from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from codeprior.kernels._choose import choose
from codeprior.kernels._device import launching
from codeprior.kernels._layout import as_rows, check_floating, check_width
from codeprior.kernels.nearest_code.api import nearest_code


def residual_code(latent: Tensor, codebooks: Tensor, *, impl: str | None = None, mode: str = "exact") -> Tensor:
    """Gives the index of the nearest code at each stage: of the vector, then of what the chosen codes leave over.

    r₀ = x;  iₘ = nearest_code(rₘ, codebooks[m]);  rₘ₊₁ = rₘ − codebooks[m][iₘ],  in float32 (float64 for float64)

    Args:
        latent: `(n, d)`, `(b, t, d)` or `(b, d, h, w)`; any floating type; any strides.
        codebooks: `(m, k, d)`, one table per stage, on the same device.
        impl: `"triton"`, two launches a stage, `"reference"`, a `nearest_code` for each, or None to choose.
        mode: `"exact"` or `"fast"`, as for `nearest_code`.

    Returns:
        int64 indices in [0, k), `(n, m)`, `(b, t, m)` or `(b, m, h, w)`.

    Raises:
        TypeError: Latent or codebooks hold integers, or are no tensors.
        ValueError: The shapes do not fit.
        ImplUnavailable: The implementation asked for by name cannot run here.

    Source: Zeghidour et al. 2021 (SoundStream), algorithm 1.
    """
    check_floating("residual_code", latent=latent, codebooks=codebooks)
    if codebooks.ndim != 3 or 0 in codebooks.shape:
        raise ValueError(f"residual_code: expected codebooks (m, k, d), not empty, got {tuple(codebooks.shape)}.")
    if mode not in ("exact", "fast"):
        raise ValueError(f"residual_code: expected mode 'exact' or 'fast', got {mode!r}.")
    check_width("residual_code", latent, codebooks.shape[2])
    unfit: dict[str, str] = {}
    if torch.float64 in (latent.dtype, codebooks.dtype):
        unfit = {"triton": "it keeps what is left over in float32, not float64"}
    elif codebooks.shape[2] > 512:
        unfit = {"triton": "its codes are at most 512 wide"}
    latent, codebooks = latent.detach(), codebooks.detach()
    if choose("residual_code", impl, str(latent.device), unfit=unfit) == "reference":
        return _stages(latent, codebooks, mode)
    rows = as_rows(latent)
    found = residual_code_triton(rearrange(rows, "b s d -> (b s) d"), codebooks, mode == "exact")
    found = rearrange(found, "(b s) m -> b s m", b=len(rows))
    if latent.ndim == 4:
        return rearrange(found, "b (h w) m -> b m h w", h=latent.shape[2])
    return found[0] if latent.ndim == 2 else found


@torch.library.custom_op("codeprior::residual_code_triton", mutates_args=())
def residual_code_triton(rows: Tensor, codebooks: Tensor, exact: bool) -> Tensor:
    """Indices `(n, m)` for rows `(n, d)` and tables `(m, k, d)`, float32 or half precision."""
    return launch(rows, codebooks, exact=exact)


@residual_code_triton.register_fake
def _(rows: Tensor, codebooks: Tensor, exact: bool) -> Tensor:
    return rows.new_empty((len(rows), len(codebooks)), dtype=torch.int64)


def launch(rows: Tensor, codebooks: Tensor, *, exact: bool = True, tiles: Any = None) -> Tensor:
    """Runs the lookup's kernels for every stage, which subtract the chosen codes from the rows; as `fused.launch`."""
    from codeprior.kernels.nearest_code.fused import Work, choose_tiles
    from codeprior.kernels.nearest_code.prepared import Prepared, prepare

    codebooks = codebooks.contiguous()
    stages, size, width = codebooks.shape
    indices = torch.empty(stages, len(rows), dtype=torch.int64, device=rows.device)
    if len(rows) == 0:
        return indices.T
    work = Work(len(rows), size, width, tiles or choose_tiles(len(rows), size, width, device=rows.device), rows.device)
    rest = rows.to(torch.float32, copy=True, memory_format=torch.contiguous_format)[None]
    nothing = torch.empty(0, dtype=torch.int64, device=rows.device)
    with launching(rows):
        tables = prepare(codebooks, width=work.padded, zeroed=(nothing, work.words))
        for stage, table in enumerate(codebooks):
            if stage:
                work.words.zero_()
            part = Prepared(*(values[stage] for values in tables))
            work.run(rest, table, part, (indices[stage], rest, rest, nothing), write=2, exact=exact)
    return indices.T.contiguous()


def _stages(latent: Tensor, codebooks: Tensor, mode: str) -> Tensor:
    wide = torch.promote_types(torch.promote_types(latent.dtype, codebooks.dtype), torch.float32)
    found, rest = [], latent.to(wide)
    for table in codebooks.unbind(0):
        indices = nearest_code(rest, table, mode=mode)
        codes = table[indices].to(wide)
        found.append(indices)
        rest = rest - (rearrange(codes, "b h w d -> b d h w") if latent.ndim == 4 else codes)
    return torch.stack(found, 1 if latent.ndim == 4 else -1)

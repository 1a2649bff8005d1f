"""The lookup as registered ops, so that torch.compile, export and autograd know it.

The CPU's implementations and the Triton kernel are separate ops: when they were one op, the compiler replaced it by the
Triton launch on every device.
"""

import torch
from torch import Tensor

from codeprior.kernels.code_stats import code_stats
from codeprior.kernels.nearest_code import blocked, compiled, reference
from codeprior.kernels.nearest_code.reference import squared_distance

_PANEL = 2**18  # elements of codes that are written at a time


# registered without `custom_op`, whose handling of gradients takes longer than a search of few rows; indices have no
# gradient
_NAME = "codeprior::nearest_code"
torch.library.define(_NAME, "(Tensor rows, Tensor codebook, str impl, bool exact) -> Tensor")


@torch.library.impl(_NAME, "default")
def _(rows: Tensor, codebook: Tensor, impl: str, exact: bool) -> Tensor:
    return _search(rows, codebook, impl, exact)


@torch.library.register_fake(_NAME)
def fake_indices(rows: Tensor, codebook: Tensor, impl: str, exact: bool) -> Tensor:
    """Shape of what `nearest_code_op` gives."""
    return rows.new_empty(rows.shape[:2], dtype=torch.int64)


# indices (b, s) for rows (b, s, d)
nearest_code_op = torch.ops.codeprior.nearest_code.default


@torch.library.custom_op("codeprior::lookup", mutates_args=())
def lookup_op(rows: Tensor, codebook: Tensor, impl: str, exact: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Codes `(b, s, d)`, squared distances `(b, s)`, indices `(b, s)` and counts `(k,)` for rows `(b, s, d)`."""
    indices = _search(rows, codebook, impl, exact)
    if impl == "compiled" and rows.dtype == codebook.dtype == torch.float32:
        codes, distances = compiled.exchange(rows, codebook, indices)
    else:
        codes, distances = _exchange(rows, codebook, indices)
    _mark_undefined(rows, codebook, indices, codes=codes, distances=distances)
    counts = torch.zeros(len(codebook), dtype=torch.int64, device=rows.device)
    flat = indices.reshape(-1)
    return codes, distances, indices, counts.scatter_add_(0, flat, torch.ones_like(flat))


@lookup_op.register_fake
def fake_lookup(rows: Tensor, codebook: Tensor, impl: str, exact: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Shapes of what `lookup_op` gives."""
    return (
        torch.empty_like(rows),
        rows.new_empty(rows.shape[:2], dtype=_wide(rows)),
        rows.new_empty(rows.shape[:2], dtype=torch.int64),
        codebook.new_empty(codebook.shape[:1], dtype=torch.int64),
    )


def remember(ctx, inputs: tuple, output: tuple) -> None:
    """Keeps what the gradient needs: the rows, the table and the indices."""
    rows, codebook = inputs[:2]
    _, _, indices, counts = output
    ctx.mark_non_differentiable(indices, counts)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(rows, codebook, indices)


def gradients(ctx, codes_gradient: Tensor | None, distances_gradient: Tensor | None, _indices, _counts):
    """Gives the gradients of rows and table.

    d|x − c|² / dx = 2 (x − c) = −d|x − c|² / dc; each code's gradient is a sum over the rows that chose it.
    """
    rows, codebook, indices = ctx.saved_tensors
    to_rows = to_table = None
    if distances_gradient is not None:
        difference = rows - codebook[indices].to(rows.dtype)
        to_rows = 2 * difference * distances_gradient[..., None].to(rows.dtype)
    if ctx.needs_input_grad[1]:
        terms = [term for term in (codes_gradient, None if to_rows is None else -to_rows) if term is not None]
        flat = sum(terms[1:], terms[0]).flatten(0, 1)
        to_table = code_stats(flat, indices.flatten(), size=len(codebook)).sums.to(codebook.dtype)
    return to_rows, to_table, *[None] * (len(ctx.needs_input_grad) - 2)


lookup_op.register_autograd(gradients, setup_context=remember)


def _search(rows: Tensor, codebook: Tensor, impl: str, exact: bool) -> Tensor:
    if impl == "reference":
        return reference.nearest_rows(rows, codebook)
    if impl == "compiled":
        return compiled.nearest_rows(rows, codebook, exact=exact)
    # the bounds hold for products in the operands' own type; autocast would choose another
    with torch.autocast(rows.device.type, enabled=False):
        return blocked.nearest_rows(rows, codebook, exact=exact)


def _wide(rows: Tensor) -> torch.dtype:
    return torch.promote_types(rows.dtype, torch.float32)


def _exchange(rows: Tensor, codebook: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    codes = torch.empty_like(rows)
    distances = torch.empty(rows.shape[:2], dtype=_wide(rows), device=rows.device)
    step = max(1, _PANEL // rows.shape[2])
    for image in range(len(rows)):
        for start in range(0, rows.shape[1], step):
            span = (image, slice(start, start + step))
            chosen = codebook[indices[span]]
            codes[span] = chosen
            distances[span] = (rows[span] - chosen).to(distances.dtype).square_().sum(-1)
    return codes, distances


def _mark_undefined(rows: Tensor, codebook: Tensor, indices: Tensor, *, codes: Tensor, distances: Tensor) -> None:
    # a finite distance may overflow float32: float64 decides which rows have none
    suspects = (~distances.isfinite()).nonzero()
    for part in suspects.split(max(1, _PANEL // rows.shape[2])):
        image, row = part.unbind(1)
        exact = squared_distance(rows[image, row], codebook[indices[image, row]])
        image, row = part[~exact.isfinite()].unbind(1)
        codes[image, row] = torch.nan
        distances[image, row] = torch.nan

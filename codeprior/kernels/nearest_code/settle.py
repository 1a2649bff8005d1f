"""Near ties, settled in float64: the codes that a float32 screen cannot rule out are compared by their true distance.

The screen's score is s(k) = |c − μ|² / 2 − (x − μ)·(c − μ), which orders the codes as the distance does. Its float32
value is off by at most E; a code whose score exceeds the smallest by more than 2 E cannot be the nearest.
"""

import torch
from torch import Tensor

from codeprior.kernels.nearest_code.reference import squared_distance

_SCORES = 2**20
_ELEMENTS = 2**18
_CROWDED = 32  # candidates per row from which on duplicate codes are removed first


def operand_rounding(device: torch.device) -> float:
    """Gives the relative rounding that torch may apply to operands of a float32 product; 0 where it applies none.

    `torch.set_float32_matmul_precision` and `torch.backends` may ask for TF32, 11 bits, or bfloat16, 8 bits.
    """
    backend = torch.backends.cuda if device.type == "cuda" else torch.backends.mkldnn
    # older versions of torch have the one setting alone
    asked = getattr(getattr(backend, "matmul", None), "fp32_precision", None)
    if asked is None:
        asked = {"high": "tf32", "medium": "bf16"}.get(torch.get_float32_matmul_precision(), "ieee")
        tf32 = device.type == "cuda" and torch.backends.cuda.matmul.allow_tf32
        asked = "tf32" if tf32 and asked == "ieee" else asked
    # other devices choose by themselves: the coarsest that PyTorch offers
    return {"ieee": 0.0, "none": 0.0, "tf32": 2.0**-10}.get(asked, 2.0**-8)


def margin(norm: Tensor, longest: Tensor | float, *, width: int, rounding: float = 0.0) -> Tensor:
    """Gives 2 E, the gap of scores from which the float32 ranking is certain.

    E = u (d + 8) C (|x − μ| + C), with u = 2⁻²⁴ and C = max |c − μ|: a sum of d + 1 products and terms in any order,
    fused or not (Higham, Accuracy and Stability, section 3.1), the rounding of both centred operands and of
    |c − μ|² / 2. The norms' own rounding is in the factor 1 + 2⁻¹⁰; the last term is for products that underflow.

    Args:
        norm: |x − μ| for each row, float32.
        longest: C.
        width: d.
        rounding: Relative rounding of the operands of the product, as `operand_rounding` gives it.
    """
    slack = 2 * (2.0**-24 * (width + 8) + rounding * (2 + rounding)) * (1 + 2.0**-10)
    return slack * longest * (norm + longest) + (width + 8) * 2.0**-124


def middle(codebook: Tensor) -> Tensor:
    """Gives a float32 point among codes `(…, k, d)`: any keeps the ranking, a central one makes the bound tight."""
    mean = codebook.mean(-2, dtype=torch.promote_types(codebook.dtype, torch.float32))
    return mean.float().nan_to_num(0, 0, 0)


def settle(rows: Tensor, codebook: Tensor, indices: Tensor, *, doubtful: Tensor) -> None:
    """Writes the exact index of each doubtful row into `indices`.

    Args:
        rows: `(b, s, d)`, any floating type, any strides.
        codebook: `(k, d)`.
        indices: `(b, s)`, int64; changed in place.
        doubtful: `(b, s)`, boolean.
    """
    places = doubtful.nonzero()
    if not len(places):
        return
    centre = middle(codebook)
    alone = None
    for image, place in (part.unbind(1) for part in places.split(max(1, _SCORES // len(codebook)))):
        chosen = rows[image, place]
        inside = _window(chosen, codebook, centre)
        if inside.sum() > _CROWDED * len(chosen):
            alone = _first_of_its_kind(codebook) if alone is None else alone
            inside &= alone
        # a row that is not finite is as far from every code: the lowest wins
        inside &= chosen.isfinite().all(1)[:, None]
        indices[image, place] = _closest(chosen, codebook, inside)


def _window(rows: Tensor, codebook: Tensor, centre: Tensor) -> Tensor:
    centred = rows.sub(centre).float() if rows.dtype == torch.float64 else rows.float() - centre
    scores = torch.empty(len(rows), len(codebook), device=rows.device)
    longest = torch.zeros((), device=rows.device)
    step = max(1, _ELEMENTS // codebook.shape[1])
    for first in range(0, len(codebook), step):
        codes = (codebook[first : first + step] - centre).float()
        half = codes.square().sum(1) / 2
        longest = torch.maximum(longest, (2 * half.max()).sqrt())
        scores[:, first : first + step] = torch.addmm(half, centred, codes.T, alpha=-1)
    reach = margin(torch.linalg.vector_norm(centred, dim=1), longest, width=codebook.shape[1],
                   rounding=operand_rounding(rows.device))  # fmt: skip
    # written so that a NaN rules nothing out
    return ~(scores > (scores.amin(1) + reach)[:, None])


def _first_of_its_kind(codebook: Tensor) -> Tensor:
    _, kind = torch.unique(codebook, dim=0, return_inverse=True)
    order = torch.arange(len(codebook), device=codebook.device)
    first = torch.full_like(order, len(codebook)).scatter_reduce(0, kind, order, "amin")
    return first[kind] == order


def _closest(rows: Tensor, codebook: Tensor, inside: Tensor) -> Tensor:
    best = torch.full((len(rows),), torch.inf, dtype=torch.float64, device=rows.device)
    found = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
    for row, code in (part.unbind(1) for part in inside.nonzero().split(max(1, _ELEMENTS // codebook.shape[1]))):
        distances = squared_distance(rows[row], codebook[code])
        distances = torch.where(distances.isnan(), torch.inf, distances)
        low = torch.full_like(best, torch.inf).scatter_reduce(0, row, distances, "amin")
        candidates = torch.where(distances == low[row], code, len(codebook))
        first = torch.full_like(found, len(codebook)).scatter_reduce(0, row, candidates, "amin")
        # parts come in the order of row and code: on a tie between parts the earlier has the lower index
        found = torch.where(low < best, first, found)
        best = torch.minimum(best, low)
    return found

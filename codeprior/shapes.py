"""The tensor alphabet: one alias for each kind of tensor that passes from one room to another.

Letters: `b` batch, `H W` pixels, `h w` grid of codes, `d` code dimension, `k` codes in the table, `n` vectors.
The aliases cost nothing at run time; the tests check them.
"""

from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["Image", "Indices", "Latent", "Logits", "ManyIndices", "ManyLogits", "brief"]

Image = Float[Tensor, "b 3 H W"]
"""A batch of RGB images; whether unit, [0, 1], or signed, [-1, 1], is said where it is used."""

Latent = Float[Tensor, "b d h w"]
"""Vectors of code space on a grid, before or after they are exchanged for codes."""

Indices = Int[Tensor, "b h w"]
"""Which row of the codebook stands at each place of the grid."""

Logits = Float[Tensor, "b h w k"]
"""Scores of every code at each place of the grid."""

ManyIndices = Int[Tensor, "b m h w"]
"""Which row of each of `m` tables stands at each place, for residual and grouped codebooks."""

ManyLogits = Float[Tensor, "b m h w k"]
"""Scores of every code of each of `m` tables."""


def brief(value: Tensor) -> str:
    """Gives a tensor's shape, type and device in a few letters, for the reprs of what holds it.

    Args:
        value: Any tensor.

    Example:
        >>> import torch
        >>> brief(torch.zeros(1, 256, 16, 16))
        '1×256×16×16 float32'
    """
    place = "" if value.device.type == "cpu" else f" {value.device}"
    return f"{'×'.join(map(str, value.shape)) or 'scalar'} {str(value.dtype).removeprefix('torch.')}{place}"

"""The association loss of DAEFR: a symmetric contrastive loss with cosine similarity, also called symmetric InfoNCE.

It teaches two encoders to give equal latents for the same place of two images. Every grid position of every image is a
row of unit length, so that products of rows are cosines. Row `i` of the first must have its largest cosine with row `i`
of the second, and the other way round. The kernel behind it never holds the matrix of all pairs.
"""

from typing import Literal

from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from codeprior.kernels.contrastive import gathered_cross_entropy, symmetric_cross_entropy
from codeprior.shapes import Latent


def association_loss(
    first: Latent, second: Latent, *, scale: Float[Tensor, ""] | float, negatives: Literal["local", "global"] = "local"
) -> Float[Tensor, ""]:
    """Gives the mean of the row-wise and the column-wise cross-entropy of `scale · Â B̂ᵀ` against the diagonal.

    `Â` and `B̂` are the latents as rows in order batch, row, column, each row of unit length.

    Args:
        first: Latents of one encoder before quantisation, `b d h w`.
        second: Latents of the other on the paired images, `b d h w`.
        scale: Inverse temperature, above 0: a number, or a tensor when it learns. CLIP starts it at 1 / 0.07.
        negatives: `"local"` compares with the other positions of this process's batch, `"global"` with those of all
            ranks; then every rank computes its own rows and columns, and gets the whole loss.

    Returns:
        The loss, in nats a row; `ln(b · h · w)` where no row is distinguished from another.

    Raises:
        ValueError: The shapes differ or are not `b d h w`, a number as `scale` is not above 0, or `negatives` is
            neither `"local"` nor `"global"`.

    Source:
        DAEFR stage 2 (scale fixed at 1 / 0.07, local negatives). A row of zeros stays zero here; there it becomes NaN.
    """
    if first.shape != second.shape or first.ndim != 4:
        raise ValueError(
            f"association_loss: expected paired latents of one shape b d h w, got {tuple(first.shape)} and "
            f"{tuple(second.shape)}."
        )
    if negatives not in ("local", "global"):
        raise ValueError(f"association_loss: negatives is 'local' or 'global', got {negatives!r}.")
    # a scale that learns is not looked at: on a GPU that would make everything wait
    if not isinstance(scale, Tensor) and not scale > 0:
        raise ValueError(f"association_loss: expected a scale above 0, got {scale}; CLIP starts it at 1 / 0.07.")
    rows, columns = (F.normalize(rearrange(latent, "b d h w -> (b h w) d"), dim=-1) for latent in (first, second))
    take = gathered_cross_entropy if negatives == "global" else symmetric_cross_entropy
    return take(rows, columns, scale=scale)

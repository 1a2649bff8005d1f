"""The commitment term, which moves latents to codes, and the codebook term, which moves codes to latents.

Quantizers return no loss; a recipe takes `latent` and `Quantized.codes` and adds this.
"""

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from codeprior.shapes import Latent


def codebook_loss(
    latent: Latent, codes: Latent, *, commitment: float = 1.0, codebook: float = 0.25
) -> Float[Tensor, ""]:
    """Gives `commitment · mean (z − sg(q))² + codebook · mean (sg(z) − q)²`, a scalar.

    Args:
        latent: What the encoder gave, `b d h w`.
        codes: The chosen rows, `b d h w`, with their gradient to the table; not the straight-through values, whose
            gradient goes to the encoder.
        commitment: Weight of the term that moves the encoder.
        codebook: Weight of the term that moves the codes. Zero for a table that learns by moving averages.

    Returns:
        The loss, a mean over all elements.

    Raises:
        ValueError: The shapes differ.

    Source:
        DAEFR, RestoreFormer and CodeFormer weigh commitment 1 and codebook 0.25, taming-transformers' legacy order.
        VQ-VAE (van den Oord 2017, eq. 3) has them the other way round: `commitment=0.25, codebook=1.0`.
    """
    if latent.shape != codes.shape:
        raise ValueError(
            f"codebook_loss: expected latent and codes of one shape, got {tuple(latent.shape)} and "
            f"{tuple(codes.shape)}."
        )
    return commitment * F.mse_loss(latent, codes.detach()) + codebook * F.mse_loss(codes, latent.detach())

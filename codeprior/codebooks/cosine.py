"""A codebook on the unit sphere: vectors are compared by their angle."""

import torch
from einops import rearrange
from torch import nn
from torch.nn import functional as F

from codeprior.codebooks.codebook import Quantized
from codeprior.codebooks.gradients import Passage, pass_gradient
from codeprior.kernels.nearest_code import lookup
from codeprior.layers.configured import configured
from codeprior.shapes import Indices, Latent


@configured
class CosineCodebook(nn.Module):
    """A codebook whose codes, and the vectors that they stand for, are brought to unit length before they meet.

    On the unit sphere |x − c|² = 2 − 2 x·c, so that the nearest code is the one of the largest cosine.

    Args:
        size: Count of codes.
        dim: Width of a code.
        gradient: `"straight_through"` or `"rotation"`.

    Attributes:
        weight: `(size, dim)`, normal at first; of any length.

    Source: Yu et al. 2021 (ViT-VQGAN), section 3.2. Give `codebook_loss` the latent at unit length, `unit(latent)`.
    """

    def __init__(self, size: int, dim: int, *, gradient: Passage = "straight_through"):
        super().__init__()
        self.size, self.dim = size, dim
        self.gradient: Passage = gradient
        self.weight = nn.Parameter(torch.randn(size, dim))

    def unit(self, latent: Latent) -> Latent:
        """Gives the latent with each vector at unit length."""
        return F.normalize(latent, dim=1)

    def forward(self, latent: Latent) -> Quantized:
        """Exchanges each vector for the code of the smallest angle.

        Args:
            latent: `b d h w`, with `d = dim`, of any length.

        Returns:
            values: The codes, of unit length, with a gradient to the latent.
            codes: The same with a gradient to the table.
            indices: `b h w`, int64.
        """
        latent = self.unit(latent)
        found = lookup(latent.detach(), F.normalize(self.weight, dim=1))
        return Quantized(pass_gradient(latent, found.codes, how=self.gradient), found.codes, found.indices)

    def lookup(self, indices: Indices) -> Latent:
        """Gives the codes of these indices, `b h w` to `b d h w`, of unit length."""
        table = F.normalize(self.weight, dim=1)
        return rearrange(F.embedding(indices, table), "b h w d -> b d h w").contiguous()

    def extra_repr(self) -> str:
        return f"size={self.size}, dim={self.dim}"

"""Fusion of two latents by one linear map: the baseline that attention has to beat."""

import torch
from torch import nn

from codeprior.layers import configured
from codeprior.shapes import Latent


@configured
class LinearFusion(nn.Module):
    """Joins two latents along their channels and maps them back to code space, place by place.

    Args:
        dim: Code dimension of both latents.

    Source: Tsai et al. 2024 (DAEFR), the ablation without cross-attention.
    """

    def __init__(self, dim: int = 256):
        super().__init__()
        self.dim = dim
        self.join = nn.Conv2d(2 * dim, dim, 1)

    def forward(self, stream: Latent, guide: Latent) -> Latent:
        """Gives the fused latent.

        Args:
            stream: `b d h w`.
            guide: `b d h w`.

        Returns:
            `b d h w`.
        """
        return self.join(torch.cat((stream, guide), dim=1))

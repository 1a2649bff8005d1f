"""The smallest code predictor: one linear map, place by place."""

from einops import rearrange
from torch import nn

from codeprior.layers import configured
from codeprior.shapes import Latent, Logits


@configured
class LinearPredictor(nn.Module):
    """Scores every code at a place from the latent at that place alone; runs on any grid.

    Args:
        dim: Code dimension that comes in.
        size: How many codes the codebook has.
        normalised: Whether each vector is normalised (LayerNorm) before it is scored.

    Source: the baseline of Zhou et al. 2022 (CodeFormer), where context is left out; normalised, that of the second
        VQFR (Gu et al. 2022).
    """

    def __init__(self, dim: int = 256, size: int = 1024, *, normalised: bool = False):
        super().__init__()
        self.dim = dim
        self.size = size
        self.norm = nn.LayerNorm(dim) if normalised else nn.Identity()
        self.to_logits = nn.Linear(dim, size)

    def forward(self, latent: Latent) -> Logits:
        """Gives `b h w k`, the score of every code at every place of a latent `b d h w`."""
        return self.to_logits(self.norm(rearrange(latent, "b d h w -> b h w d")))

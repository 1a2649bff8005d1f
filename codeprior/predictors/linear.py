"""The smallest code predictor: one linear map, place by place."""

from einops import rearrange
from torch import nn

from codeprior.layers import configured
from codeprior.shapes import Latent, Logits, ManyLogits


@configured
class LinearPredictor(nn.Module):
    """Scores every code at a place from the latent at that place alone; runs on any grid.

    Args:
        dim: Code dimension that comes in.
        size: How many codes the codebook has.
        normalised: Whether each vector is normalised (LayerNorm) before it is scored.
        tables: Residual tables of codes, each scored without knowing the others.

    Source: the baseline of Zhou et al. 2022 (CodeFormer), where context is left out; normalised, that of the second
        VQFR (Gu et al. 2022).
    """

    def __init__(self, dim: int = 256, size: int = 1024, *, normalised: bool = False, tables: int = 1):
        super().__init__()
        self.dim = dim
        self.size, self.tables = size, tables
        self.norm = nn.LayerNorm(dim) if normalised else nn.Identity()
        self.to_logits = nn.Linear(dim, tables * size)

    def forward(self, latent: Latent) -> Logits | ManyLogits:
        """Gives `b h w k`, the score of every code at every place of a latent `b d h w`; of several `b m h w k`."""
        logits = self.to_logits(self.norm(rearrange(latent, "b d h w -> b h w d")))
        return logits if self.tables == 1 else rearrange(logits, "b h w (m k) -> b m h w k", m=self.tables)

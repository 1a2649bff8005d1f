"""The code predictor: which row of the codebook should stand at each place of the grid."""

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import nn

from codeprior.layers import SelfAttentionLayer, configured
from codeprior.shapes import Latent, Logits


@configured
class CodePredictor(nn.Module):
    """A transformer over the places of a grid, with learned positions and one score a code.

    Args:
        dim: Code dimension that comes in.
        size: How many codes the codebook has.
        grid: Rows and columns of the grid.
        width: Token width.
        layers: Transformer layers.
        heads: Attention heads.
        hidden: Width inside the feed-forward parts.

    Raises:
        ValueError: `width` does not divide into `heads`.

    Source: Zhou et al. 2022 (CodeFormer), whose sizes are the defaults; DAEFR uses the same. Positions begin at zero
        and are added to queries and keys in every layer; the head has no bias.
    """

    def __init__(
        self,
        dim: int = 256,
        size: int = 1024,
        *,
        grid: Sequence[int] = (16, 16),
        width: int = 512,
        layers: int = 9,
        heads: int = 8,
        hidden: int = 1024,
    ):
        super().__init__()
        self.dim = dim
        self.size = size
        self.grid = (grid[0], grid[1])
        self.embed = nn.Linear(dim, width)
        self.position = nn.Parameter(torch.zeros(grid[0] * grid[1], width))
        self.layers = nn.ModuleList(SelfAttentionLayer(width, heads=heads, hidden=hidden) for _ in range(layers))
        self.norm_out = nn.LayerNorm(width)
        self.to_logits = nn.Linear(width, size, bias=False)

    def forward(self, latent: Latent) -> Logits:
        """Gives the score of every code at every place.

        Args:
            latent: `b d h w`, on the grid that the predictor was built for.

        Returns:
            `b h w k`.

        Raises:
            ValueError: The latent lies on another grid, or has another dimension.
        """
        rows, columns = latent.shape[-2:]
        if (rows, columns) != self.grid:
            expected = f"{self.grid[0]}×{self.grid[1]}"
            raise ValueError(
                f"CodePredictor: expected a {expected} grid of codes, got {rows}×{columns}; at stride 32 give it "
                f"{32 * self.grid[0]}×{32 * self.grid[1]} images or set grid=({rows}, {columns})."
            )
        if latent.shape[1] != self.dim:
            raise ValueError(f"CodePredictor: expected latents of dimension {self.dim}, got {latent.shape[1]}.")
        tokens = self.embed(rearrange(latent, "b d h w -> b (h w) d"))
        for layer in self.layers:
            tokens = layer(tokens, self.position)
        return rearrange(self.to_logits(self.norm_out(tokens)), "b (h w) k -> b h w k", h=rows)

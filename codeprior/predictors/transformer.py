"""The code predictor: which row of the codebook, or of each residual table, should stand at each place of the grid."""

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from codeprior.layers import SelfAttentionLayer, configured
from codeprior.shapes import Latent, Logits, ManyIndices, ManyLogits


@configured
class CodePredictor(nn.Module):
    """A transformer over the places of a grid, with learned positions; it gives a score for every code.

    Args:
        dim: Code dimension that comes in.
        size: How many codes the codebook has.
        grid: Rows and columns of the grid.
        width: Token width.
        layers: Transformer layers.
        heads: Attention heads.
        hidden: Width inside the feed-forward parts.
        tables: Residual tables of codes. Every table after the first has one more transformer layer and a head, whose
            input also holds the codes of the tables before it: the true ones in training, the likeliest ones otherwise.
        any_grid: Whether latents of other grids are accepted too. The table of positions is then interpolated
            bicubically to their grid; on `grid` itself it is used unchanged.

    Raises:
        ValueError: `width` does not divide into `heads`, there is no table, or the grid is not two numbers.

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
        tables: int = 1,
        any_grid: bool = False,
    ):
        super().__init__()
        if tables < 1:
            raise ValueError(f"CodePredictor: expected at least 1 table, got {tables}.")
        if isinstance(grid, int) or len(grid) != 2:
            raise ValueError(f"CodePredictor: expected grid=(rows, columns), got {grid}.")
        self.dim = dim
        self.size = size
        self.tables = tables
        self.grid = (grid[0], grid[1])
        self.any_grid = any_grid
        self.embed = nn.Linear(dim, width)
        self.position = nn.Parameter(torch.zeros(grid[0] * grid[1], width))
        self.layers = nn.ModuleList(SelfAttentionLayer(width, heads=heads, hidden=hidden) for _ in range(layers))
        self.norm_out = nn.LayerNorm(width)
        self.to_logits = nn.Linear(width, size, bias=False)
        # a model of one table keeps the names that it always had
        if tables > 1:
            self.later = nn.ModuleList(_LaterTable(size, width, heads, hidden) for _ in range(tables - 1))

    def forward(self, latent: Latent, known: ManyIndices | None = None) -> Logits | ManyLogits:
        """Gives the score of every code at every place.

        Args:
            latent: `b d h w`, on the grid that the predictor was built for, or any with `any_grid`.
            known: `b m h w`, the true codes, for training with several tables: each table is then scored with the true
                codes of the tables before it (teacher forcing). With one table it is not used.

        Returns:
            `b h w k` for one table, `b m h w k` for several.

        Raises:
            ValueError: The latent lies on another grid, or has another dimension; or the codes do.
        """
        rows, columns = latent.shape[-2:]
        if (rows, columns) != self.grid and not self.any_grid:
            expected = f"{self.grid[0]}×{self.grid[1]}"
            raise ValueError(
                f"CodePredictor: expected a {expected} grid of codes, got {rows}×{columns}; give the encoder "
                f"images of {self.grid[0]}×{self.grid[1]} times its stride, or set grid=({rows}, {columns})."
            )
        if latent.shape[1] != self.dim:
            raise ValueError(f"CodePredictor: expected latents of dimension {self.dim}, got {latent.shape[1]}.")
        if known is not None and self.tables > 1 and known.shape != (len(latent), self.tables, rows, columns):
            raise ValueError(
                f"CodePredictor: expected known codes {(len(latent), self.tables, rows, columns)}, got "
                f"{tuple(known.shape)}."
            )
        tokens = self.embed(rearrange(latent, "b d h w -> b (h w) d"))
        position = self._position(rows, columns)
        for layer in self.layers:
            tokens = layer(tokens, position)
        logits = [self.to_logits(self.norm_out(tokens))]
        if self.tables == 1:
            return rearrange(logits[0], "b (h w) k -> b h w k", h=rows)
        for table, later in enumerate(self.later):
            before = logits[-1].argmax(-1) if known is None else rearrange(known[:, table], "b h w -> b (h w)")
            tokens, scores = later(tokens, before, position)
            logits.append(scores)
        return rearrange(logits, "m b (h w) k -> b m h w k", h=rows)

    def _position(self, rows: int, columns: int) -> Tensor:
        if (rows, columns) == self.grid:
            return self.position
        table = rearrange(self.position, "(h w) c -> 1 c h w", h=self.grid[0])
        return rearrange(F.interpolate(table, size=(rows, columns), mode="bicubic"), "1 c h w -> (h w) c")


class _LaterTable(nn.Module):
    def __init__(self, size: int, width: int, heads: int, hidden: int):
        super().__init__()
        self.embed = nn.Embedding(size, width)
        self.layer = SelfAttentionLayer(width, heads=heads, hidden=hidden)
        self.norm_out = nn.LayerNorm(width)
        self.to_logits = nn.Linear(width, size, bias=False)
        nn.init.normal_(self.embed.weight, std=width**-0.5)

    def forward(self, tokens: Tensor, before: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.layer(tokens + self.embed(before), position)
        return tokens, self.to_logits(self.norm_out(tokens))

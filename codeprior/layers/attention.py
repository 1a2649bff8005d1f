"""Attention over a grid, from a feature to itself or from a guide to a stream."""

from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from codeprior.layers.norm import group_norm, pointwise


class AttentionBlock(nn.Module):
    """Residual multi-head attention over all places of a grid.

    `stream + project(attention(query(norm_guide(guide)), key(norm(stream)), value(norm(stream))))`; the residual is the
    stream before its normalisation. Without a guide the queries come from the normalised stream as well.

    Args:
        channels: Channels of stream and guide.
        heads: Heads; head `i` owns channels `i · channels / heads` and up.
        guided: Whether the block has a normalisation for a guide.
        groups: Groups of the normalisations.

    Raises:
        ValueError: `channels` does not divide into `heads` or `groups`.

    Source: Esser et al. 2021 (one head); Wang et al. 2022 (RestoreFormer) for the guided form with several heads.
    """

    def __init__(self, channels: int, *, heads: int = 1, guided: bool = False, groups: int = 32):
        super().__init__()
        if channels % heads:
            raise ValueError(f"AttentionBlock: {channels} channels do not divide into {heads} heads.")
        self.heads = heads
        self.norm = group_norm(channels, groups=groups)
        self.norm_guide = group_norm(channels, groups=groups) if guided else None
        self.query = nn.Conv2d(channels, channels, 1)
        self.key = nn.Conv2d(channels, channels, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.project = nn.Conv2d(channels, channels, 1)

    def forward(self, stream: Float[Tensor, "b c h w"], guide: Tensor | None = None) -> Float[Tensor, "b c h w"]:
        """Gives the stream plus the result of attention.

        Args:
            stream: Gives keys, values and the residual.
            guide: Gives the queries, `b c h2 w2`; the grids must be equal, because each result is added at the place of
                its query.

        Raises:
            ValueError: A guide came to a block without `guided`, did not come to one with it, or has another shape.
        """
        source = self.norm(stream)
        asking = self._asking(stream, guide, source)
        height, width = stream.shape[-2:]
        query, key, value = (
            rearrange(pointwise(layer, feature), "b (m c) h w -> b m (h w) c", m=self.heads)
            for layer, feature in ((self.query, asking), (self.key, source), (self.value, source))
        )
        answer = F.scaled_dot_product_attention(query, key, value)
        answer = rearrange(answer, "b m (h w) c -> b (m c) h w", h=height, w=width)
        return stream + pointwise(self.project, answer)

    def _asking(self, stream: Tensor, guide: Tensor | None, source: Tensor) -> Tensor:
        if (guide is None) != (self.norm_guide is None):
            expected = "no guide" if self.norm_guide is None else "a guide"
            raise ValueError(f"AttentionBlock: this block was built for {expected}; set guided={guide is not None}.")
        if guide is None or self.norm_guide is None:
            return source
        if guide.shape != stream.shape:
            raise ValueError(
                f"AttentionBlock: the guide has shape {tuple(guide.shape)}, the stream {tuple(stream.shape)}; "
                "they must be equal."
            )
        return self.norm_guide(guide)


class SelfAttentionLayer(nn.Module):
    """One pre-norm transformer layer whose queries and keys carry a position code.

    `x + attention(norm1(x) + p, norm1(x) + p, norm1(x))`, then `x + feedforward(norm2(x))`.

    Args:
        width: Token width.
        heads: Attention heads.
        hidden: Width inside the feed-forward part.

    Raises:
        ValueError: `width` does not divide into `heads`.

    Source: Zhou et al. 2022 (CodeFormer), appendix; the same layer in DAEFR.
    """

    def __init__(self, width: int, *, heads: int = 8, hidden: int = 1024):
        super().__init__()
        if width % heads:
            raise ValueError(f"SelfAttentionLayer: a width of {width} does not divide into {heads} heads.")
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.expand = nn.Linear(width, hidden)
        self.contract = nn.Linear(hidden, width)
        self._initialise()

    def forward(self, tokens: Float[Tensor, "b n c"], position: Float[Tensor, "n c"]) -> Float[Tensor, "b n c"]:
        """Gives the tokens after the layer."""
        value = self.norm1(tokens)
        placed = value + position
        # queries and keys see the position, values do not: two products with two slices of one weight
        weight, bias, width = self.query_key_value.weight, self.query_key_value.bias, tokens.shape[-1]
        query_key = F.linear(placed, weight[: 2 * width], bias[: 2 * width])
        values = F.linear(value, weight[2 * width :], bias[2 * width :])
        query, key = rearrange(query_key, "b n (two m c) -> two b m n c", two=2, m=self.heads)
        values = rearrange(values, "b n (m c) -> b m n c", m=self.heads)
        answer = F.scaled_dot_product_attention(query, key, values)
        tokens = tokens + self.project(rearrange(answer, "b m n c -> b n (m c)"))
        return tokens + self.contract(F.gelu(self.expand(self.norm2(tokens))))

    def _initialise(self) -> None:
        # as torch's MultiheadAttention starts: Xavier over the joined projection, zero biases
        nn.init.xavier_uniform_(self.query_key_value.weight)
        with torch.no_grad():
            self.query_key_value.bias.zero_()
            self.project.bias.zero_()


def attentive_levels(who: str, attention: Sequence[int], levels: int) -> set[int]:
    """Gives the numbers of the levels that have attention, counted from the finest.

    Args:
        who: The module that asks, for the error.
        attention: Level numbers; negative ones count from the deepest.
        levels: How many levels there are.

    Raises:
        ValueError: A number lies outside.
    """
    outside = [number for number in attention if not -levels <= number < levels]
    if outside:
        raise ValueError(f"{who}: attention at level {outside[0]}, but there are {levels} levels.")
    return {number % levels for number in attention}

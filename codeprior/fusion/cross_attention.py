"""Fusion of two latents by attention: the guide asks, the stream answers and is kept."""

from torch import nn

from codeprior.layers import AttentionBlock, configured
from codeprior.shapes import Latent


@configured
class CrossAttentionFusion(nn.Module):
    """Lets every place of a guide read from a whole stream, and adds the answer to the stream.

    `stream + project(attention(q = norm(guide), k = v = norm(stream)))`.

    Args:
        dim: Code dimension of both latents.
        heads: Attention heads.
        groups: Groups of the normalisations.

    Raises:
        ValueError: `dim` does not divide into `heads` or `groups`.

    Source: Tsai et al. 2024 (DAEFR), one layer with 8 heads: the stream comes from the HQ encoder, the guide from the
        LQ encoder.
    """

    def __init__(self, dim: int = 256, *, heads: int = 8, groups: int = 32):
        super().__init__()
        self.dim = dim
        self.attention = AttentionBlock(dim, heads=heads, guided=True, groups=groups)

    def forward(self, stream: Latent, guide: Latent) -> Latent:
        """Gives the fused latent.

        Args:
            stream: `b d h w`, what is kept and read from.
            guide: `b d h w`, what asks.

        Returns:
            `b d h w`.

        Raises:
            ValueError: The two have different shapes.
        """
        return self.attention(stream, guide)

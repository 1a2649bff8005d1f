"""Fusion of two latents by attention: the guide gives the queries, the stream the keys, the values and the residual."""

from torch import nn

from codeprior.layers import AttentionBlock, configured
from codeprior.shapes import Latent


@configured
class CrossAttentionFusion(nn.Module):
    """Lets every place of a guide attend to all places of a stream, and adds the result to the stream.

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
            stream: `b d h w`; gives keys, values and the residual.
            guide: `b d h w`; gives the queries.

        Returns:
            `b d h w`.

        Raises:
            ValueError: The two have different shapes.
        """
        return self.attention(stream, guide)

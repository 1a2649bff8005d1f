"""The residual block of the VQGAN family."""

from jaxtyping import Float
from torch import Tensor, nn

from codeprior.layers.norm import group_norm, normed_convolution, pointwise


class ResidualBlock(nn.Module):
    """Two normalised, activated 3×3 convolutions beside a skip.

    `x + conv2(silu(norm2(conv1(silu(norm1(x))))))`; the skip is a 1×1 convolution where the channel counts differ.

    Args:
        channels: Channels that come in.
        out_channels: Channels that go out; as many as come in unless given.
        groups: Groups of both normalisations.

    Raises:
        ValueError: A channel count does not divide into `groups`.

    Source: Esser et al. 2021, without time embedding and dropout, as CodeFormer, RestoreFormer and DAEFR use it.
    """

    def __init__(self, channels: int, out_channels: int | None = None, *, groups: int = 32):
        super().__init__()
        out_channels = out_channels or channels
        self.norm1 = group_norm(channels, groups=groups)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.norm2 = group_norm(out_channels, groups=groups)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.skip = nn.Identity() if out_channels == channels else nn.Conv2d(channels, out_channels, 1)

    def forward(self, feature: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h w"]:
        """Gives the feature after the block, same grid."""
        hidden = normed_convolution(self.norm1, self.conv1, feature=feature)
        skipped = pointwise(self.skip, feature) if isinstance(self.skip, nn.Conv2d) else self.skip(feature)
        return normed_convolution(self.norm2, self.conv2, feature=hidden, residual=skipped)

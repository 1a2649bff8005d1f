"""Halving and doubling of a feature's grid."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from codeprior.kernels.convolution import convolution


class Downsample(nn.Module):
    """Halves the grid by a 3×3 convolution of stride 2, padded on the right and at the bottom only.

    Args:
        channels: Channels that come in.
        out_channels: Channels that go out; as many as come in unless given.

    Source: Esser et al. 2021; the one-sided padding is part of every published VQGAN's weights.
    """

    def __init__(self, channels: int, out_channels: int | None = None):
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels or channels, 3, stride=2)

    def forward(self, feature: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        """Gives the feature on half the grid; an odd side loses its last half step."""
        if torch.is_grad_enabled():
            return self.conv(F.pad(feature, (0, 1, 0, 1)))
        # two places all around and the first answers left out: the same sums, without a padded copy of the feature
        height, width = feature.shape[-2:]
        answer = F.conv2d(feature, self.conv.weight, self.conv.bias, stride=2, padding=2)
        return answer[..., 1 : height // 2 + 1, 1 : width // 2 + 1]


class Upsample(nn.Module):
    """Doubles the grid by repeating each place, then a 3×3 convolution.

    Args:
        channels: Channels that come in.
        out_channels: Channels that go out; as many as come in unless given.

    Source: Esser et al. 2021.
    """

    def __init__(self, channels: int, out_channels: int | None = None):
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels or channels, 3, padding=1)

    def forward(self, feature: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        """Gives the feature on twice the grid."""
        if torch.is_grad_enabled():
            return self.conv(F.interpolate(feature, scale_factor=2.0, mode="nearest"))
        return convolution(feature, self.conv.weight, self.conv.bias, doubled=True)

"""Halving and doubling of a feature's grid."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from codeprior.kernels.convolution import convolution
from codeprior.layers.norm import convolved


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
        # padding two places on all sides and dropping the first results gives the same sums, without a padded copy
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


class BilinearDownsample(nn.Module):
    """Shrinks the grid bilinearly, then a 3×3 convolution.

    Args:
        channels: Channels that come in.
        out_channels: Channels that go out; as many as come in unless given.
        rate: How many places become one along each side; where the sides are no multiples of it, the samples are
            spread over the whole side.

    Source: Gu et al. 2022 (VQFR), the first version. The feature is not smoothed first: at a rate of 2 the four places
        of a square are averaged, at higher rates places between the samples have no effect.
    """

    def __init__(self, channels: int, out_channels: int | None = None, *, rate: int = 2):
        super().__init__()
        self.rate = rate
        self.conv = nn.Conv2d(channels, out_channels or channels, 3, padding=1)

    def forward(self, feature: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        """Gives the feature on a grid of `h // rate` rows and `w // rate` columns."""
        size = (feature.shape[-2] // self.rate, feature.shape[-1] // self.rate)
        small = F.interpolate(feature, size=size, mode="bilinear", align_corners=False)
        return convolved(self.conv, small)


class BilinearUpsample(nn.Module):
    """A 3×3 convolution, then bilinear enlargement to twice the grid.

    Args:
        channels: Channels that come in.
        out_channels: Channels that go out; as many as come in unless given.

    Source: Gu et al. 2022 (VQFR), the first version.
    """

    def __init__(self, channels: int, out_channels: int | None = None):
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels or channels, 3, padding=1)

    def forward(self, feature: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        """Gives the feature on twice the grid."""
        return F.interpolate(convolved(self.conv, feature), scale_factor=2.0, mode="bilinear", align_corners=False)

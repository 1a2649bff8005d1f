"""The module of deformable convolution: offsets and masks are computed from a second feature."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from codeprior.kernels.deformable_convolution import deformable_convolution
from codeprior.layers.norm import convolved

_TAPS = 9  # of a 3×3 kernel


class DeformableConvolution(nn.Module):
    """A deformable 3×3 convolution whose offsets and masks are computed from a second feature.

    Args:
        channels: Channels that come in and go out.
        groups: Groups of channels that are moved together.

    Attributes:
        weight: `channels channels 3 3`, uniform within `±1 / sqrt(9 channels)` at first.
        bias: `(channels,)`, zero at first.
        offsets: The convolution that gives offsets and the logits of the masks, zero at first: a new block reads the
            grid itself, each tap at half its weight.

    Raises:
        ValueError: `channels` does not divide into `groups`.

    Source: Zhu et al. 2019, as VQFR (Gu et al. 2022) uses it.
    """

    def __init__(self, channels: int, *, groups: int = 4):
        super().__init__()
        if channels % groups:
            raise ValueError(f"DeformableConvolution: {channels} channels do not divide into {groups} groups.")
        bound = 1 / math.sqrt(_TAPS * channels)
        self.groups = groups
        self.weight = nn.Parameter(torch.empty(channels, channels, 3, 3).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.offsets = nn.Conv2d(channels, 3 * _TAPS * groups, 3, padding=1)
        nn.init.zeros_(self.offsets.weight)
        nn.init.zeros_(self.offsets.bias)  # pyright: ignore[reportArgumentType]

    def forward(
        self, feature: Float[Tensor, "b c h w"], guide: Float[Tensor, "b c h w"], *, impl: str | None = None
    ) -> Float[Tensor, "b c h w"]:
        """Gives the convolution of a feature, read at places that follow from the guide.

        Args:
            feature: What is convolved.
            guide: What the offsets and masks are computed from, on the same grid.
            impl: See `codeprior.kernels.deformable_convolution`.
        """
        raw = convolved(self.offsets, guide)
        split = 2 * _TAPS * self.groups
        offsets, mask = raw[:, :split], raw[:, split:].sigmoid()
        return deformable_convolution(feature, self.weight, self.bias, offsets=offsets, mask=mask, impl=impl)

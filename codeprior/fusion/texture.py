"""Texture warping: the prior's sharp textures are moved to where the degraded picture has its edges.

A codebook draws plausible texture, but a little beside its true place. From the texture and the degraded picture the
warp computes offsets, with which a deformable convolution moves the texture. `TextureBranch` does so at every stride,
coarse to fine, and joins the results to one feature. Source: Gu et al. 2022 (VQFR), section 3.3.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from codeprior.layers import (
    BilinearDownsample,
    BilinearUpsample,
    DeformableConvolution,
    ResidualBlock,
    Tap,
    Upsample,
    configured,
    convolved,
    group_norm,
)
from codeprior.shapes import Image


class Warped(NamedTuple):
    """What a texture warp gives.

    Attributes:
        texture: `b c h w`, the texture, moved to its place in the picture.
        trace: `b c h w`, the feature that the offsets were read from, for the warp of the next finer stride.
    """

    texture: Tensor
    trace: Tensor


class TextureWarp(nn.Module):
    """Moves a texture feature by offsets that follow from it and a condition.

    Args:
        channels: Of the texture.
        condition_channels: Of the condition.
        before: Channels of the coarser stride's trace; 0 where there is none.
        rate: Side of the condition's grid over that of the texture.
        convolved: Whether a convolution follows after the condition is reduced by `rate`, where that is above 1.
        deformable_groups: Groups of channels that are moved together.
        groups: Groups of the normalisations.

    Raises:
        ValueError: `channels` does not divide into either kind of groups.

    Source: Gu et al. 2022 (VQFR); with `convolved` the first version, without it the second.
    """

    def __init__(
        self,
        channels: int,
        condition_channels: int = 32,
        *,
        before: int = 0,
        rate: int = 1,
        convolved: bool = False,
        deformable_groups: int = 4,
        groups: int = 32,
    ):
        super().__init__()
        self.rate, self.before = rate, before
        self.shrink = BilinearDownsample(condition_channels, rate=rate) if convolved and rate > 1 else None
        self.look = nn.Sequential(
            nn.Conv2d(channels + condition_channels, channels, 1),
            group_norm(channels, groups=groups),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 7, padding=3, groups=channels),
            group_norm(channels, groups=groups),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 1),
        )
        self.join = _Join(
            nn.Conv2d(channels + before, channels, 3, padding=1), group_norm(channels, groups=groups), nn.SiLU()
        )
        self.warp = DeformableConvolution(channels, groups=deformable_groups)

    def forward(
        self,
        texture: Float[Tensor, "b c h w"],
        condition: Float[Tensor, "b c2 H W"],
        trace: Float[Tensor, "b c3 h w"] | None = None,
    ) -> Warped:
        """Gives the warped texture, and what the next finer warp starts from.

        Args:
            texture: What is moved.
            condition: What the offsets follow from, on a grid `rate` times as fine.
            trace: Of the coarser stride, on this grid; see `doubled_trace`.

        Raises:
            ValueError: A trace came to a warp without `before`, or did not come to one with it.
        """
        if (trace is None) != (self.before == 0):
            expected = "a trace" if self.before else "no trace"
            raise ValueError(f"TextureWarp: this warp was built for {expected}; set before to the trace's channels.")
        if self.shrink is not None:
            condition = self.shrink(condition)
        elif self.rate > 1:
            condition = F.interpolate(condition, size=texture.shape[-2:], mode="bilinear", align_corners=False)
        seen = self.look(torch.cat((condition, texture), 1))
        joined = self.join(seen if trace is None else torch.cat((seen, trace), 1))
        return Warped(self.warp(texture, joined), joined)


class _Join(nn.Sequential):
    def forward(self, input: Tensor) -> Tensor:
        first, *others = self
        feature = convolved(cast(nn.Conv2d, first), input)
        for other in others:
            feature = other(feature)
        return feature


def doubled_trace(trace: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
    """Gives a trace for the next finer stride: bilinear on twice the grid, and twice the value.

    Args:
        trace: `b c h w`.

    Note:
        Offsets in pixels would double with the grid. The trace is a feature and not offsets, and the published weights
        were trained with the doubling all the same.

    Source: Gu et al. 2022 (VQFR).
    """
    return 2 * F.interpolate(trace, scale_factor=2.0, mode="bilinear", align_corners=False)


@configured
class TextureBranch(nn.Module):
    """Warps a decoder's textures at every stride by the degraded picture, and joins them from coarse to fine.

    The coarsest feature is the warped texture itself. At every finer stride the feature is enlarged to twice its sides,
    joined with the warped texture of that stride, and given to a residual block.

    Args:
        channels: Of the texture at the strides 1, 2, 4 and so on times `finest`, in pixels a grid step.
        condition_channels: Channels that a first convolution reads from the picture.
        bilinear: As in the first version of VQFR: features are enlarged bilinearly, and the condition is convolved
            after it is reduced.
        deformable_groups: Groups of channels that are moved together.
        groups: Groups of the normalisations.
        finest: Stride of the finest texture; above 1 for a decoder that shuffles squares of pixels at its end.

    Attributes:
        strides: Coarsest first.
        channels: Of the feature that it gives.

    Source: Gu et al. 2022 (VQFR), the main branch.

    Example:
        ```python
        recorder = Recorder(branch.places)
        texture = decoder(values, taps=recorder.taps)
        feature = branch(recorder.features, degraded)
        ```
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        condition_channels: int = 32,
        bilinear: bool = False,
        deformable_groups: int = 4,
        groups: int = 32,
        finest: int = 1,
    ):
        super().__init__()
        widths = list(reversed(channels))
        self.strides = [finest * 2**index for index in reversed(range(len(widths)))]
        self.channels = channels[0]
        self.look = nn.Conv2d(3, condition_channels, 3, padding=1)
        self.warps = nn.ModuleList(
            TextureWarp(
                width, condition_channels, before=before, rate=stride, convolved=bilinear,
                deformable_groups=deformable_groups, groups=groups,
            )
            for stride, width, before in zip(self.strides, widths, [0, *widths[:-1]], strict=True)
        )  # fmt: skip
        growing = BilinearUpsample if bilinear else Upsample
        self.grow = nn.ModuleList(growing(coarse, fine) for coarse, fine in pairwise(widths))
        self.blocks = nn.ModuleList(ResidualBlock(2 * width, width, groups=groups) for width in widths[1:])

    @property
    def places(self) -> list[Tap]:
        """Where a decoder's textures are read: at the end of each level."""
        return [Tap(stride) for stride in self.strides]

    def forward(self, textures: Mapping[Tap, Tensor], image: Image) -> Float[Tensor, "b c H W"]:
        """Gives the joined feature on the grid of the finest texture.

        Args:
            textures: Of a decoder, at `places`.
            image: `b 3 H W`, signed, the degraded picture.
        """
        condition = self.look(image)
        feature, trace = self.warps[0](textures[self.places[0]], condition)
        for place, warp, grow, block in zip(self.places[1:], self.warps[1:], self.grow, self.blocks, strict=True):
            texture, trace = warp(textures[place], condition, doubled_trace(trace))
            feature = block(torch.cat((grow(feature), texture), 1))
        return feature

"""The convolutional decoder of VQGAN, with taps at every stride."""

from collections.abc import Sequence

from torch import nn
from torch.nn import functional as F

from codeprior.layers import (
    AttentionBlock,
    ResidualBlock,
    Taps,
    Upsample,
    attentive_levels,
    configured,
    group_norm,
    level_steps,
    normed_convolution,
    placed_taps,
    walk_level,
)
from codeprior.shapes import Image, Latent


@configured
class VQGANDecoder(nn.Module):
    """Walks values of code space up a pyramid of residual blocks to an image.

    Args:
        dim: Code dimension that comes in.
        channels: Channels of the last (finest) level.
        multipliers: Channels of each level, finest first, in units of `channels`.
        blocks: Residual blocks a level.
        attention: Levels whose blocks are each followed by attention; negative numbers count from the deepest.
        heads: Heads of that attention.
        latent_channels: Channels after the first 1×1 convolution; `dim` unless given.
        groups: Groups of every normalisation.
        unshuffle: Side of the squares of pixels that the last convolution gives as channels, see `VQGANEncoder`.

    Attributes:
        dim: Code dimension.
        stride: Pixels a grid step.
        tap_channels: Channels of the feature at each stride that taps are given.
        last_layer: The convolution that gives the image; adversarial weights are balanced on it.

    Raises:
        ValueError: Channels do not divide into groups or heads, or `attention` names a level that is not there.

    Source: Esser et al. 2021; the defaults are those of CodeFormer and DAEFR at 512 px, which have one residual block
        a level more than the encoder. The 1×1 convolution (`post_quant_conv`) belongs to the decoder here.
    """

    def __init__(
        self,
        dim: int = 256,
        *,
        channels: int = 64,
        multipliers: Sequence[int] = (1, 2, 2, 4, 4, 8),
        blocks: int = 3,
        attention: Sequence[int] = (-1,),
        heads: int = 1,
        latent_channels: int | None = None,
        groups: int = 32,
        unshuffle: int = 1,
    ):
        super().__init__()
        self.dim, self.unshuffle, self.blocks = dim, unshuffle, blocks
        self.stride = unshuffle * 2 ** (len(multipliers) - 1)
        attentive = attentive_levels("VQGANDecoder", attention, len(multipliers))
        widths = [channels * multiplier for multiplier in multipliers]
        deepest = widths[-1]
        self.tap_channels = {unshuffle * 2**index: width for index, width in enumerate(widths)}
        self.from_code = nn.Conv2d(dim, latent_channels or dim, 1)
        self.conv_in = nn.Conv2d(latent_channels or dim, deepest, 3, padding=1)
        self.middle = nn.Sequential(
            ResidualBlock(deepest, groups=groups),
            AttentionBlock(deepest, heads=heads, groups=groups),
            ResidualBlock(deepest, groups=groups),
        )
        # finest first, like the encoder's; the walk goes through them backwards
        self.levels = nn.ModuleList(
            _Level(before, width, blocks, heads if index in attentive else 0, groups, double=index > 0)
            for index, (before, width) in enumerate(zip([*widths[1:], deepest], widths, strict=True))
        )
        self.norm_out = group_norm(widths[0], groups=groups)
        self.conv_out = nn.Conv2d(widths[0], 3 * unshuffle**2, 3, padding=1)

    @property
    def last_layer(self) -> nn.Conv2d:
        return self.conv_out

    def forward(self, values: Latent, taps: Taps | None = None) -> Image:
        """Gives the image that values of code space stand for.

        Args:
            values: `b d h w`; any grid.
            taps: For a place, what to do with the feature there: `{Tap(32, block=0): f, 16: g}` gives `f` the feature
                of stride 32 after the level's first residual block, `g` that at the end of the level of stride 16, and
                goes on with what they return.

        Returns:
            `b 3 H W` with `H = h · stride`; signed, not clamped.

        Raises:
            ValueError: A tap names a place that the decoder does not pass.
        """
        placed = placed_taps("VQGANDecoder", taps, strides=list(self.tap_channels), blocks=self.blocks)
        feature = self.middle(self.conv_in(self.from_code(values)))
        for stride, level in zip(reversed(self.tap_channels), reversed(self.levels), strict=True):
            assert isinstance(level, _Level)
            feature = level.resample(walk_level(level.steps, feature, each=level.each, taps=placed.get(stride)))
        image = normed_convolution(self.norm_out, self.conv_out, feature=feature)
        return F.pixel_shuffle(image, self.unshuffle) if self.unshuffle > 1 else image


class _Level(nn.Module):
    def __init__(self, before: int, width: int, blocks: int, heads: int, groups: int, *, double: bool):
        super().__init__()
        self.steps = level_steps(before, width, blocks=blocks, heads=heads, groups=groups)
        self.each = 2 if heads else 1
        self.resample = Upsample(width) if double else nn.Identity()

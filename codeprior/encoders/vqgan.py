"""The convolutional encoder of VQGAN: image in, latent out."""

from collections.abc import Sequence

from torch import nn

from codeprior.layers import (
    AttentionBlock,
    Downsample,
    ResidualBlock,
    attentive_levels,
    configured,
    group_norm,
    normed_convolution,
)
from codeprior.shapes import Image, Latent


@configured
class VQGANEncoder(nn.Module):
    """Walks an image down a pyramid of residual blocks into code space.

    One level a multiplier; each but the last ends by halving the grid, so the stride is `2 ** (levels − 1)`: with the
    defaults 32, a 512×512 image gives a 16×16 grid.

    Args:
        dim: Code dimension that the last 1×1 convolution gives.
        channels: Channels of the first level.
        multipliers: Channels of each level, in units of `channels`.
        blocks: Residual blocks a level.
        attention: Levels whose blocks are each followed by attention; negative numbers count from the deepest.
        heads: Heads of that attention.
        latent_channels: Channels before the last 1×1 convolution; `dim` unless given.
        groups: Groups of every normalisation.

    Attributes:
        dim: Code dimension.
        stride: Pixels a grid step.

    Raises:
        ValueError: Channels do not divide into groups or heads, or `attention` names a level that is not there.

    Source: Esser et al. 2021; the defaults are those of CodeFormer and DAEFR at 512 px. The 1×1 convolution
        (`quant_conv`) belongs to the encoder here, so that encoders end in code space.
    """

    def __init__(
        self,
        dim: int = 256,
        *,
        channels: int = 64,
        multipliers: Sequence[int] = (1, 2, 2, 4, 4, 8),
        blocks: int = 2,
        attention: Sequence[int] = (-1,),
        heads: int = 1,
        latent_channels: int | None = None,
        groups: int = 32,
    ):
        super().__init__()
        self.dim = dim
        self.stride = 2 ** (len(multipliers) - 1)
        attentive = attentive_levels("VQGANEncoder", attention, len(multipliers))
        widths = [channels * multiplier for multiplier in multipliers]
        latent_channels = latent_channels or dim
        self.conv_in = nn.Conv2d(3, channels, 3, padding=1)
        self.levels = nn.ModuleList(
            _Level(before, width, blocks, heads if index in attentive else 0, groups, halve=index < len(widths) - 1)
            for index, (before, width) in enumerate(zip([channels, *widths[:-1]], widths, strict=True))
        )
        self.middle = nn.Sequential(
            ResidualBlock(widths[-1], groups=groups),
            AttentionBlock(widths[-1], heads=heads, groups=groups),
            ResidualBlock(widths[-1], groups=groups),
        )
        self.norm_out = group_norm(widths[-1], groups=groups)
        self.conv_out = nn.Conv2d(widths[-1], latent_channels, 3, padding=1)
        self.to_code = nn.Conv2d(latent_channels, dim, 1)

    def forward(self, image: Image) -> Latent:
        """Gives the latent of an image.

        Args:
            image: `b 3 H W`, signed; `H` and `W` multiples of `stride`.

        Returns:
            `b d h w` with `h = H / stride`.

        Raises:
            ValueError: A side is not a multiple of `stride`.
        """
        if image.shape[-2] % self.stride or image.shape[-1] % self.stride:
            raise ValueError(
                f"VQGANEncoder: expected sides that are multiples of {self.stride}, got "
                f"{image.shape[-2]}×{image.shape[-1]}; resize or pad the image."
            )
        feature = self.conv_in(image)
        for level in self.levels:
            feature = level(feature)
        feature = self.middle(feature)
        return self.to_code(normed_convolution(self.norm_out, self.conv_out, feature=feature))


class _Level(nn.Module):
    def __init__(self, before: int, width: int, blocks: int, heads: int, groups: int, *, halve: bool):
        super().__init__()
        steps: list[nn.Module] = []
        for index in range(blocks):
            steps.append(ResidualBlock(width if index else before, width, groups=groups))
            if heads:
                steps.append(AttentionBlock(width, heads=heads, groups=groups))
        if halve:
            steps.append(Downsample(width))
        self.steps = nn.Sequential(*steps)

    def forward(self, feature):
        return self.steps(feature)

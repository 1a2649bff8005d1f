"""The convolutional encoder of VQGAN: image in, latent out."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from codeprior.images import check_image
from codeprior.layers import (
    MIDDLE,
    BilinearDownsample,
    Downsample,
    Tapped,
    Taps,
    attentive_levels,
    configured,
    convolved,
    group_norm,
    level_steps,
    middle_steps,
    normed_convolution,
    placed_taps,
    walk_level,
    walk_middle,
)
from codeprior.shapes import Image, Latent


@configured
class VQGANEncoder(nn.Module):
    """A pyramid of residual blocks that leads from an image to code space.

    There is one level for each multiplier. Each level but the last ends by halving the grid, so the stride is
    `2 ** (levels − 1)`: 32 with the defaults, where a 512×512 image gives a 16×16 grid. With `unshuffle` above 1 the
    first convolution sees squares of pixels as channels, and the stride is multiplied by `unshuffle`.

    Args:
        dim: Code dimension that the last 1×1 convolution gives.
        channels: Channels of the first level.
        multipliers: Channels of each level, in units of `channels`.
        blocks: Residual blocks a level.
        attention: Levels whose blocks are each followed by attention; negative numbers count from the deepest.
        heads: Heads of that attention.
        latent_channels: Channels before the last 1×1 convolution; `dim` unless given.
        groups: Groups of every normalisation.
        unshuffle: Side of the squares of pixels that become channels before the first convolution, in pixels. At 2 the
            costly full resolution is never convolved; 1 leaves the image as it is.
        middle: Whether two residual blocks with attention between them follow the deepest level.
        activated: Whether SiLU stands between the last normalisation and the convolution after it.
        code_convolution: Whether the last 1×1 convolution is there; without, the 3×3 one before it ends in code space.
        bilinear: Whether the grid is halved bilinearly, by convolutions that also change the width, rather than by
            convolutions of stride 2.

    Attributes:
        dim: Code dimension.
        stride: Pixels a grid step.
        tap_channels: Channels of the feature at each stride that taps can read.

    Raises:
        ValueError: Channels do not divide into groups or heads, or `attention` names a level that is not there.

    Source: Esser et al. 2021; the defaults are those of DAEFR at 512 px. The 1×1 convolution (`quant_conv`) belongs to
        the encoder here, so that encoders end in code space. Pixel unshuffling: the inverse of Shi et al. 2016.
        CodeFormer (Zhou et al. 2022) has neither activation nor 1×1 convolution at the end; VQFR (Gu et al. 2022) in
        its first version is bilinear and has no middle, in its second no 1×1 convolution.
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
        unshuffle: int = 1,
        middle: bool = True,
        activated: bool = True,
        code_convolution: bool = True,
        bilinear: bool = False,
    ):
        super().__init__()
        self.dim, self.unshuffle, self.activated = dim, unshuffle, activated
        self.stride = unshuffle * 2 ** (len(multipliers) - 1)
        attentive = attentive_levels("VQGANEncoder", attention, len(multipliers))
        widths = [channels * multiplier for multiplier in multipliers]
        latent_channels = (latent_channels or dim) if code_convolution else dim
        self.blocks = blocks
        self.tap_channels = {unshuffle * 2**index: width for index, width in enumerate(widths)}
        self.conv_in = nn.Conv2d(3 * unshuffle**2, channels, 3, padding=1)
        befores = [channels, *(widths[1:] if bilinear else widths[:-1])]
        self.levels = nn.ModuleList(
            _Level(
                level_steps(before, width, blocks=blocks, heads=heads if index in attentive else 0, groups=groups),
                each=2 if index in attentive and heads else 1,
                shrink=_shrinking(width, after, bilinear=bilinear),
            )
            for index, (before, width, after) in enumerate(zip(befores, widths, [*widths[1:], 0], strict=True))
        )
        self.middle = middle_steps(widths[-1], heads=heads, groups=groups) if middle else nn.Sequential()
        self.norm_out = group_norm(widths[-1], groups=groups)
        self.conv_out = nn.Conv2d(widths[-1], latent_channels, 3, padding=1)
        self.to_code = nn.Conv2d(latent_channels, dim, 1) if code_convolution else nn.Identity()

    def forward(self, image: Image, taps: Taps | None = None) -> Latent:
        """Gives the latent of an image.

        Args:
            image: `b 3 H W`, signed; `H` and `W` multiples of `stride`.
            taps: Functions by place. `{Tap(8, block=0): f}` calls `f` with the feature of stride 8 after the level's
                first residual block, `{8: f}` with the one at the level's end; the encoder goes on with what `f`
                returns. To read a feature only, return it unchanged; see `Recorder`.

        Returns:
            `b d h w` with `h = H / stride`.

        Raises:
            TypeError: The image is of another type than the weights.
            ValueError: A side is not a multiple of `stride`, the image is not `b 3 H W`, or a tap names a place that is
                not there.
        """
        check_image("VQGANEncoder", image, self)
        if image.shape[-2] % self.stride or image.shape[-1] % self.stride:
            raise ValueError(
                f"VQGANEncoder: expected sides that are multiples of {self.stride}, got "
                f"{image.shape[-2]}×{image.shape[-1]}; resize or pad the image."
            )
        placed = placed_taps(
            "VQGANEncoder", taps, strides=list(self.tap_channels), blocks=self.blocks, middle=len(self.middle) > 0
        )
        feature = convolved(self.conv_in, F.pixel_unshuffle(image, self.unshuffle) if self.unshuffle > 1 else image)
        for stride, level in zip(self.tap_channels, self.levels, strict=True):
            assert isinstance(level, _Level)
            feature = level(feature, placed.get(stride))
        feature = walk_middle(self.middle, feature, taps=placed.get(MIDDLE))
        return self.to_code(normed_convolution(self.norm_out, self.conv_out, feature=feature, activated=self.activated))


class _Level(nn.Module):
    def __init__(self, steps: nn.Sequential, *, each: int, shrink: nn.Module | None):
        super().__init__()
        self.steps, self.each, self.halve = steps, each, shrink is not None
        if shrink is not None:
            self.steps.append(shrink)

    def forward(self, feature: Tensor, taps: Mapping[int, Tapped] | None = None) -> Tensor:
        *blocks, last = self.steps
        if not self.halve:
            return walk_level([*blocks, last], feature, each=self.each, taps=taps)
        return last(walk_level(blocks, feature, each=self.each, taps=taps))


def _shrinking(width: int, after: int, *, bilinear: bool) -> nn.Module | None:
    if not after:
        return None
    return BilinearDownsample(width, after) if bilinear else Downsample(width)

"""The convolutional decoder of VQGAN, with taps at every stride."""

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from codeprior.images import check_latent
from codeprior.layers import (
    MIDDLE,
    BilinearUpsample,
    Taps,
    Upsample,
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
class VQGANDecoder(nn.Module):
    """A pyramid of residual blocks that leads from values of code space to an image.

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
        middle: Whether two residual blocks with attention between them come before the deepest level.
        activated: Whether SiLU stands between the last normalisation and the last convolution.
        code_convolution: Whether the first 1×1 convolution is there.
        widening: Whether a 3×3 convolution widens what comes in to the deepest level's channels; without it the 1×1
            convolution does.
        bilinear: Whether the grid is doubled bilinearly, after convolutions that also change the width, rather than by
            repeating places before a convolution.
        guided: Whether guides give the queries of every attention; then `forward` must be given the guides.

    Attributes:
        dim: Code dimension.
        stride: Pixels a grid step.
        tap_channels: Channels of the feature at each stride that taps are given.
        guided: Where guides give the queries: strides, and `MIDDLE`.
        last_layer: The convolution that gives the image; adversarial weights are balanced on it.

    Raises:
        ValueError: Channels do not divide into groups or heads, `attention` names a level that is not there, or there
            is no convolution that leads from code space to the deepest level.

    Source: Esser et al. 2021; the defaults are those of DAEFR at 512 px, which has one residual block a level more than
        its encoder. The 1×1 convolution (`post_quant_conv`) belongs to the decoder here. Guides: Wang et al. 2022
        (RestoreFormer). CodeFormer and VQFR: see `VQGANEncoder`; the first VQFR has no widening.
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
        middle: bool = True,
        activated: bool = True,
        code_convolution: bool = True,
        widening: bool = True,
        bilinear: bool = False,
        guided: bool = False,
    ):
        super().__init__()
        if not (code_convolution or widening):
            raise ValueError("VQGANDecoder: nothing leads from code space; set code_convolution or widening.")
        self.dim, self.unshuffle, self.blocks, self.activated = dim, unshuffle, blocks, activated
        self.stride = unshuffle * 2 ** (len(multipliers) - 1)
        attentive = attentive_levels("VQGANDecoder", attention, len(multipliers))
        widths = [channels * multiplier for multiplier in multipliers]
        deepest = widths[-1]
        self.tap_channels = {unshuffle * 2**index: width for index, width in enumerate(widths)}
        wide = (latent_channels or dim) if code_convolution else dim
        self.from_code = nn.Conv2d(dim, wide if widening else deepest, 1) if code_convolution else nn.Identity()
        self.conv_in = nn.Conv2d(wide, deepest, 3, padding=1) if widening else nn.Identity()
        self.middle = middle_steps(deepest, heads=heads, groups=groups, guided=guided) if middle else nn.Sequential()
        self.guided = _guided_strides(self.tap_channels, attentive if heads else set(), middle) if guided else []
        # finest first, like the encoder's; the decoder goes through them backwards
        befores = widths if bilinear else [*widths[1:], deepest]
        self.levels = nn.ModuleList(
            _Level(
                level_steps(
                    before, width, blocks=blocks, heads=heads if index in attentive else 0, groups=groups, guided=guided
                ),
                each=2 if index in attentive and heads else 1,
                grow=_growing(width, widths[index - 1], bilinear=bilinear) if index else nn.Identity(),
            )
            for index, (before, width) in enumerate(zip(befores, widths, strict=True))
        )
        self.norm_out = group_norm(widths[0], groups=groups)
        self.conv_out = nn.Conv2d(widths[0], 3 * unshuffle**2, 3, padding=1)

    @property
    def last_layer(self) -> nn.Conv2d:
        return self.conv_out

    def forward(self, values: Latent, taps: Taps | None = None, *, guides: Mapping[int, Tensor] | None = None) -> Image:
        """Gives the image that values of code space stand for.

        Args:
            values: `b d h w`; any grid.
            taps: Functions by place. `{Tap(32, block=0): f, 16: g}` calls `f` with the feature of stride 32 after the
                level's first residual block, and `g` with the one at the end of the level of stride 16; the decoder
                goes on with what they return.
            guides: For a guided decoder: the features that give the queries, by the stride of the level, and by
                `MIDDLE` for the middle; each has the shape of the feature there.

        Returns:
            `b 3 H W` with `H = h · stride`; signed, not clamped.

        Raises:
            TypeError: The values are no tensor, or of another type than the weights, and no autocast is on.
            ValueError: The values are not `b d h w` or lie on another device, a tap names a place that the decoder does
                not pass or gives another shape, or the guides are not those of `guided`.
        """
        check_latent("VQGANDecoder", values, self, dim=self.dim)
        placed = placed_taps(
            "VQGANDecoder", taps, strides=list(self.tap_channels), blocks=self.blocks, middle=len(self.middle) > 0
        )
        asking = guides or {}
        if set(asking) != set(self.guided):
            raise ValueError(
                f"VQGANDecoder: expected guides at {sorted(self.guided) or 'no stride'}, got {sorted(asking)}; "
                "0 is the middle."
            )
        feature = self.from_code(values)
        feature = convolved(self.conv_in, feature) if isinstance(self.conv_in, nn.Conv2d) else self.conv_in(feature)
        feature = walk_middle(self.middle, feature, taps=placed.get(MIDDLE), guide=asking.get(MIDDLE))
        for stride, level in zip(reversed(self.tap_channels), reversed(self.levels), strict=True):
            assert isinstance(level, _Level)
            feature = level.resample(
                walk_level(level.steps, feature, each=level.each, taps=placed.get(stride), guide=asking.get(stride))
            )
        image = normed_convolution(self.norm_out, self.conv_out, feature=feature, activated=self.activated)
        return F.pixel_shuffle(image, self.unshuffle) if self.unshuffle > 1 else image


class _Level(nn.Module):
    def __init__(self, steps: nn.Sequential, *, each: int, grow: nn.Module):
        super().__init__()
        self.steps, self.each, self.resample = steps, each, grow


def _growing(width: int, after: int, *, bilinear: bool) -> nn.Module:
    return BilinearUpsample(width, after) if bilinear else Upsample(width)


def _guided_strides(strides: Iterable[int], attentive: set[int], middle: bool) -> list[int]:
    return [MIDDLE] * middle + [stride for index, stride in enumerate(strides) if index in attentive]

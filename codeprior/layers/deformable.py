"""Deformable convolution: a 3×3 convolution whose nine values are read where the input says, not on the grid."""

import math
from typing import Literal

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from codeprior.layers.norm import convolved

DeformableImpl = Literal["torchvision", "grid_sample"]
"""Who computes it: torchvision's own operator, or bilinear sampling and ordinary products of torch."""

_TAPS = 9  # of a 3×3 kernel


def deformable_convolution(
    feature: Float[Tensor, "b c h w"],
    weight: Float[Tensor, "o c 3 3"],
    bias: Float[Tensor, " o"] | None = None,
    *,
    offsets: Float[Tensor, "b offsets h w"],
    mask: Float[Tensor, "b masks h w"],
    impl: DeformableImpl | None = None,
) -> Float[Tensor, "b o h w"]:
    """Gives a modulated deformable 3×3 convolution, stride 1, padded by one place.

    Args:
        feature: `b c h w`.
        weight: `o c 3 3`.
        bias: `(o,)`.
        offsets: `b 2·9·g h w` of `g` groups of channels, in places of the grid: for group `i` and tap `j` of the kernel
            in row-major order, channel `2 (9 i + j)` is the shift along rows and the next one that along columns.
        mask: `b 9·g h w`, what each tap's value is multiplied by.
        impl: The implementation. With None it is torchvision where that is installed; while a graph is exported it is
            sampling, because no export format knows torchvision's operator.

    Returns:
        `b o h w`.

    Raises:
        ValueError: The shapes do not fit.
        ImportError: torchvision was asked for by name and is not installed.

    Source: Zhu et al. 2019 (Deformable ConvNets v2); the order of the channels is torchvision's. Places between four
        neighbours are read bilinearly, and outside the feature there are zeros. The two ways agree to a few units in
        the last place of float32.
    """
    height, width = feature.shape[-2:]
    groups = mask.shape[1] // _TAPS
    fits = groups > 0 and feature.shape[1] % groups == 0 and weight.shape[1:] == (feature.shape[1], 3, 3)
    if not fits or mask.shape[1:] != (9 * groups, height, width) or offsets.shape[1:] != (18 * groups, height, width):
        raise ValueError(
            f"deformable_convolution: expected a feature (b, c, h, w), a weight (o, c, 3, 3), offsets (b, 18 g, h, w) "
            f"and a mask (b, 9 g, h, w) with c a multiple of g, got {tuple(feature.shape)}, {tuple(weight.shape)}, "
            f"{tuple(offsets.shape)} and {tuple(mask.shape)}."
        )
    if impl is None:
        impl = "torchvision" if _has_torchvision() and not _exporting() else "grid_sample"
    if impl == "torchvision":
        from torchvision.ops import deform_conv2d

        return deform_conv2d(feature, offsets, weight, bias, padding=(1, 1), mask=mask)
    return _sampled(feature, weight, bias, offsets, mask, groups)


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
        self, feature: Float[Tensor, "b c h w"], guide: Float[Tensor, "b c h w"], *, impl: DeformableImpl | None = None
    ) -> Float[Tensor, "b c h w"]:
        """Gives the convolution of a feature, read at places that follow from the guide.

        Args:
            feature: What is convolved.
            guide: What the offsets and masks are computed from, on the same grid.
            impl: See `deformable_convolution`.
        """
        raw = convolved(self.offsets, guide)
        split = 2 * _TAPS * self.groups
        offsets, mask = raw[:, :split], raw[:, split:].sigmoid()
        return deformable_convolution(feature, self.weight, self.bias, offsets=offsets, mask=mask, impl=impl)


def _sampled(
    feature: Tensor, weight: Tensor, bias: Tensor | None, offsets: Tensor, mask: Tensor, groups: int
) -> Tensor:
    """Samples the feature once for each tap, and adds up nine products."""
    height, width = feature.shape[-2:]
    rows = torch.arange(height, dtype=feature.dtype, device=feature.device)
    columns = torch.arange(width, dtype=feature.dtype, device=feature.device)
    moved = rearrange(offsets, "b (g t two) h w -> t two (b g) h w", g=groups, two=2)
    shares = rearrange(mask, "b (g t) h w -> t (b g) 1 h w", g=groups)
    parts = rearrange(feature, "b (g c) h w -> (b g) c h w", g=groups)
    answer: Tensor | None = None
    for tap in range(_TAPS):
        down, right = tap // 3 - 1, tap % 3 - 1
        y = moved[tap, 0] + repeat(rows + down, "h -> h 1")
        x = moved[tap, 1] + (columns + right)
        # from places of the grid to [-1, 1] over its outer edges, which also has a meaning where a side is 1
        grid = torch.stack(((2 * x + 1) / width - 1, (2 * y + 1) / height - 1), -1)
        read = F.grid_sample(parts, grid, mode="bilinear", padding_mode="zeros", align_corners=False) * shares[tap]
        read = rearrange(read, "(b g) c h w -> b (g c) h w", g=groups)
        term = F.conv2d(read, weight[:, :, tap // 3, tap % 3, None, None], bias if tap == 0 else None)
        answer = term if answer is None else answer + term
    assert answer is not None
    return answer


def _has_torchvision() -> bool:
    from importlib.util import find_spec

    return find_spec("torchvision") is not None


def _exporting() -> bool:
    return torch.onnx.is_in_onnx_export() or torch.compiler.is_exporting() or torch.jit.is_tracing()

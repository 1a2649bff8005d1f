"""Layers with equalised weights and FIR blurs, of which StyleGAN2's discriminator and its encoders are made.

Weights are kept as unit normals and divided by the root of their fan-in when they are used. Plain torch throughout, so
that gradients of gradients exist, which R1 and the path length need.

Source: Karras et al. 2018 (ProGAN) and 2020 (StyleGAN2); the exact rules are those of the networks that GPEN (Yang et
al. 2021) published.
"""

import math
from collections.abc import Sequence

import torch
from einops import rearrange, reduce, repeat
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

FIR = (1.0, 3.0, 3.0, 1.0)
"""Taps of the blur on either side of a change of size, before they are divided by their sum."""


def stylegan_channels(resolution: int, *, multiplier: int = 2, narrow: float = 1.0) -> int:
    """Gives the channels of a feature of StyleGAN2 at a resolution.

    512 up to a resolution of 32, then `256 · multiplier` at 64, and half as many with each doubling; all times
    `narrow`, the fraction cut off.

    Args:
        resolution: Side of the grid, a power of two from 4 on.
        multiplier: Widens the features from 64 on.
        narrow: Share of the channels that are kept.
    """
    whole = 512 if resolution <= 32 else 256 * multiplier // (resolution // 64)
    return int(whole * narrow)


def resolutions_of(who: str, size: int) -> tuple[int, ...]:
    """Gives the sides 4, 8, … `size` of the grids of a network of this family.

    Args:
        who: The module that asks, for the error.
        size: Side of the images, pixels.

    Raises:
        ValueError: `size` is no power of two, or is below 8.
    """
    if size < 8 or size & (size - 1):
        raise ValueError(f"{who}: expected a size that is a power of two, 8 or more, got {size}.")
    return tuple(2**power for power in range(2, size.bit_length()))


def scaled_leaky_relu(feature: Float[Tensor, "b c ..."], bias: Float[Tensor, " c"] | None = None) -> Tensor:
    """Gives `√2 · leaky_relu(feature + bias)` with a slope of 0.2 below zero.

    Args:
        feature: Channels are the second dimension.
        bias: One number per channel.

    Returns:
        Of the feature's shape.
    """
    if bias is not None:
        feature = feature + bias.view(1, -1, *[1] * (feature.ndim - 2))
    return F.leaky_relu(feature, 0.2) * math.sqrt(2)


def pixel_norm(vectors: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
    """Gives vectors divided by the root of the mean of their squares.

    Args:
        vectors: Of any scale.
    """
    return vectors * torch.rsqrt(vectors.square().mean(1, keepdim=True) + 1e-8)


def upfirdn(
    feature: Float[Tensor, "b c h w"],
    taps: Float[Tensor, " t"],
    *,
    up: int = 1,
    down: int = 1,
    pad: tuple[int, int] = (0, 0),
) -> Float[Tensor, "b c h2 w2"]:
    """Gives a feature after inserting zeros, padding, filtering along both sides, and dropping places.

    Args:
        feature: On any grid.
        taps: The coefficients of a filter that is the same along rows and columns; it is a true convolution.
        up: `up - 1` zeros are inserted after every place.
        down: One place of this many is kept, the first.
        pad: Zeros before and after, along both sides; negative numbers remove places.

    Returns:
        `b c h2 w2` with `h2 = (h · up + sum(pad) - t) // down + 1`.
    """
    if up > 1:
        height, width = feature.shape[-2:]
        feature = F.pad(rearrange(feature, "b c h w -> b c h 1 w 1"), (0, up - 1, 0, 0, 0, up - 1))
        feature = feature.reshape(*feature.shape[:2], height * up, width * up)
    inside = pad[0] if pad[0] == pad[1] and pad[0] >= 0 else 0
    if not inside:
        feature = F.pad(feature, (*pad, *pad))
    # one pass with padding inside takes a third of the time of two passes over a padded copy, on a CPU
    turned = taps.flip(0).to(feature)
    weight = repeat(turned[:, None] * turned, "y x -> c 1 y x", c=feature.shape[1])
    return F.conv2d(feature, weight, stride=down, padding=inside, groups=feature.shape[1])


class Blur(nn.Module):
    """The FIR filter of StyleGAN2, alone or with a change of size.

    Args:
        pad: Zeros before and after, see `upfirdn`.
        up: Factor by which the sides of the grid grow.
        down: Factor by which they shrink.
        gain: What a constant feature is multiplied by; a filter that doubles the grid needs 4 to keep it.
        taps: Of the filter, of any sum.
    """

    taps: Tensor

    def __init__(
        self, pad: tuple[int, int], *, up: int = 1, down: int = 1, gain: float = 1.0, taps: Sequence[float] = FIR
    ):
        super().__init__()
        self.pad, self.up, self.down = pad, up, down
        values = torch.tensor(taps, dtype=torch.float32)
        # constants, so that no weights file holds them; each side has its half of the gain
        self.register_buffer("taps", values / values.sum() * math.sqrt(gain), persistent=False)

    def forward(self, feature: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
        """Gives the filtered feature."""
        return upfirdn(feature, self.taps, up=self.up, down=self.down, pad=self.pad)


class EqualisedLinear(nn.Module):
    """A linear layer whose weights are kept as unit normals and scaled when they are used.

    Args:
        inputs: Width that comes in.
        outputs: Width that goes out.
        bias: What every bias starts as; None for a layer without.
        rate: What the learning rate of this layer is multiplied by; its weights start as `N(0, 1) / rate`.
        activated: Whether `scaled_leaky_relu` follows.

    Source: Karras et al. 2018 (ProGAN): dividing by the root of the fan-in at run time gives every layer one rate.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        bias: float | None = 0.0,
        rate: float = 1.0,
        activated: bool = False,
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = None if bias is None else nn.Parameter(torch.full((outputs,), float(bias)))
        self.rate, self.activated = rate, activated

    def forward(self, vectors: Float[Tensor, "... n"]) -> Float[Tensor, "... m"]:
        """Gives the vectors after the layer."""
        weight = self.weight * (self.rate / math.sqrt(self.weight.shape[1]))
        answer = F.linear(vectors, weight, None if self.bias is None else self.bias * self.rate)
        return scaled_leaky_relu(answer) if self.activated else answer


class EqualisedConvolution(nn.Module):
    """A convolution with weights as in `EqualisedLinear`, activated, and blurred before it halves the grid.

    Args:
        channels: Channels that come in.
        out_channels: Channels that go out.
        kernel: Side of the kernel, odd.
        down: Whether the grid is halved: FIR blur, then stride 2.
        biased: Whether there is a bias.
        activated: Whether `scaled_leaky_relu` follows.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        *,
        kernel: int = 3,
        down: bool = False,
        biased: bool = True,
        activated: bool = True,
    ):
        super().__init__()
        self.blur = Blur(pad_down(kernel)) if down else None
        self.weight = nn.Parameter(torch.randn(out_channels, channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if biased else None
        self.activated = activated

    def forward(self, feature: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        """Gives the feature after the layer, on half the grid where it goes down."""
        kernel = self.weight.shape[-1]
        weight = self.weight / math.sqrt(self.weight[0].numel())
        bias = None if self.activated else self.bias
        if self.blur is None:
            answer = F.conv2d(feature, weight, bias, padding=kernel // 2)
        else:
            answer = F.conv2d(self.blur(feature), weight, bias, stride=2)
        return scaled_leaky_relu(answer, self.bias) if self.activated else answer


class DownBlock(nn.Module):
    """Two convolutions of which the second halves the grid, beside a skip; what StyleGAN2's discriminator is made of.

    `(conv2(conv1(x)) + skip(x)) / √2`; the skip is blurred and 1×1, without bias and activation.

    Args:
        channels: Channels that come in.
        out_channels: Channels that go out.
    """

    def __init__(self, channels: int, out_channels: int):
        super().__init__()
        self.conv1 = EqualisedConvolution(channels, channels)
        self.conv2 = EqualisedConvolution(channels, out_channels, down=True)
        self.skip = EqualisedConvolution(channels, out_channels, kernel=1, down=True, biased=False, activated=False)

    def forward(self, feature: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        """Gives the feature on half the grid."""
        return (self.conv2(self.conv1(feature)) + self.skip(feature)) / math.sqrt(2)


def batch_deviation(feature: Float[Tensor, "b c h w"], *, group: int | None = None) -> Float[Tensor, "b 1 h w"]:
    """Gives how much the samples of a group differ: the mean, over features, of their standard deviation.

    Args:
        feature: Of the samples.
        group: How many samples are compared with each other; the whole batch unless given, as in GPEN. Sample `i`
            belongs to the group of `i + b / group`, as in StyleGAN2, which has 4.

    Returns:
        One number for each group, on the whole grid; `√1e-8` where a sample is alone.

    Raises:
        ValueError: The batch does not divide into groups of this size.
    """
    batch, _, height, width = feature.shape
    group = batch if group is None else min(group, batch)
    if batch % group:
        raise ValueError(f"batch_deviation: a batch of {batch} does not divide into groups of {group}.")
    grouped = rearrange(feature, "(g n) c h w -> g n c h w", g=group)
    deviation = (grouped.var(0, unbiased=False) + 1e-8).sqrt()
    return repeat(reduce(deviation, "n c h w -> n", "mean"), "n -> (g n) 1 h w", g=group, h=height, w=width)


def pad_down(kernel: int) -> tuple[int, int]:
    """Gives the padding of the blur before a convolution of stride 2: what filter and kernel reach beyond the edge.

    Args:
        kernel: Side of the convolution's kernel.
    """
    reach = len(FIR) - 2 + kernel - 1
    return (reach + 1) // 2, reach // 2

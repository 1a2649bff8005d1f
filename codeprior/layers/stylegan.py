"""The convolutions of StyleGAN2's synthesis: modulated by a style, with noise beside or on top of their features.

Plain torch throughout, so that gradients of gradients exist, which the path length needs.

Source: Karras et al. 2020 (StyleGAN2), with the noise that GPEN (Yang et al. 2021) concatenates; the exact rules are
those of the published GPEN networks.
"""

import math
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from codeprior.kernels._exporting import exporting
from codeprior.layers.equalised import Blur, EqualisedLinear, pad_down, scaled_leaky_relu

Injection = Literal["concatenated", "added", "none"]
"""What a convolution does with its noise: puts it beside its features, adds it to them, or has none."""

Resampling = Literal["none", "up", "down", "bilinear"]
"""What a convolution does with its grid: leaves it, doubles it, halves it, or doubles it by interpolation."""


class ModulatedConvolution(nn.Module):
    """A convolution whose weights are scaled, for each sample, by its style.

    `weight · style` along what comes in, then, where it demodulates, divided by the norm of all that one output reads.
    Each sample has weights of its own: a batch is one grouped convolution.

    Args:
        channels: Channels that come in.
        out_channels: Channels that go out.
        kernel: Side of the kernel, odd.
        dim: Width of a style.
        demodulated: Whether outputs are brought back to unit norm.
        resampling: What is done with the grid. Up: a transposed convolution, then a blur; down: a blur, then stride 2;
            bilinear: the feature is doubled by interpolation, then convolved.

    Raises:
        ValueError: The kernel is even, or there is no such resampling.

    Source: Karras et al. 2020 (StyleGAN2), section 2.2; bilinear is of GFP-GAN's clean version (Wang et al. 2021).
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        *,
        kernel: int = 3,
        dim: int = 512,
        demodulated: bool = True,
        resampling: Resampling = "none",
    ):
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"ModulatedConvolution: expected an odd kernel, which keeps the grid, got {kernel}.")
        if resampling not in ("none", "up", "down", "bilinear"):
            raise ValueError(
                f"ModulatedConvolution: resampling is 'none', 'up', 'down' or 'bilinear', got {resampling!r}."
            )
        self.weight = nn.Parameter(torch.randn(out_channels, channels, kernel, kernel))
        self.modulation = EqualisedLinear(dim, channels, bias=1.0)
        self.demodulated, self.resampling = demodulated, resampling
        blurs = {"none": None, "bilinear": None, "up": Blur((1, 1), gain=4.0), "down": Blur(pad_down(kernel))}
        self.blur = blurs[resampling]

    def forward(self, feature: Float[Tensor, "b c h w"], style: Float[Tensor, "b d"]) -> Float[Tensor, "b c2 h2 w2"]:
        """Gives the feature after the convolution of each sample.

        Args:
            feature: What comes in.
            style: One vector per sample.

        Raises:
            ValueError: The feature has other channels, or the style another width.
        """
        channels, dim = self.weight.shape[1], self.modulation.weight.shape[1]
        if feature.shape[1] != channels or style.shape[-1] != dim:
            raise ValueError(
                f"ModulatedConvolution: expected a feature of {channels} channels and styles of width {dim}, got "
                f"{feature.shape[1]} and {style.shape[-1]}."
            )
        if exporting():
            return self._with_shared_weights(feature, style)
        weight = self.weights(style)
        batch, kernel = len(style), weight.shape[-1]
        if self.blur is not None and self.resampling == "down":
            feature = self.blur(feature)
        if self.resampling == "bilinear":
            feature = doubled(feature)
        feature = rearrange(feature, "b c h w -> 1 (b c) h w")
        if self.resampling == "up":
            together = rearrange(weight, "b o i y x -> (b i) o y x")
            answer = F.conv_transpose2d(feature, together, stride=2, groups=batch)
        else:
            together = rearrange(weight, "b o i y x -> (b o) i y x")
            still = self.resampling != "down"
            answer = F.conv2d(
                feature, together, stride=1 if still else 2, padding=kernel // 2 if still else 0, groups=batch
            )
        answer = rearrange(answer, "1 (b c) h w -> b c h w", b=batch)
        return self.blur(answer) if self.blur is not None and self.resampling == "up" else answer

    def weights(self, style: Float[Tensor, "b d"]) -> Float[Tensor, "b c2 c k k"]:
        """Gives the weights of each sample.

        Args:
            style: One vector per sample.
        """
        weight = self.weight * rearrange(self._scale(style), "b i -> b 1 i 1 1")
        if self.demodulated:
            weight = weight * torch.rsqrt(weight.square().sum((2, 3, 4), keepdim=True) + 1e-8)
        return weight

    def _scale(self, style: Tensor) -> Tensor:
        return self.modulation(style) / math.sqrt(self.weight[0].numel())

    def _with_shared_weights(self, feature: Tensor, style: Tensor) -> Tensor:
        """Gives the same by scaling what comes in and what goes out.

        The groups of a convolution are a constant of an exported graph, so they cannot be as many as its faces.
        """
        scale, kernel = self._scale(style), self.weight.shape[-1]
        feature = feature * rearrange(scale, "b i -> b i 1 1")
        if self.blur is not None and self.resampling == "down":
            feature = self.blur(feature)
        if self.resampling == "bilinear":
            feature = doubled(feature)
        if self.resampling == "up":
            answer = F.conv_transpose2d(feature, rearrange(self.weight, "o i y x -> i o y x"), stride=2)
        else:
            still = self.resampling != "down"
            answer = F.conv2d(feature, self.weight, stride=1 if still else 2, padding=kernel // 2 if still else 0)
        if self.demodulated:
            norms = scale.square() @ self.weight.square().sum((2, 3)).mT
            answer = answer * rearrange(torch.rsqrt(norms + 1e-8), "b o -> b o 1 1")
        return self.blur(answer) if self.blur is not None and self.resampling == "up" else answer


class StyledConvolution(nn.Module):
    """A modulated convolution, its noise, and a biased `scaled_leaky_relu`.

    Args:
        channels: Channels that come in.
        out_channels: Channels of the convolution; concatenated noise doubles what goes out.
        dim: Width of a style.
        up: Whether the grid is doubled.
        bilinear: Whether that is done by interpolation.
        noise: What is done with noise. Its weight, one number, starts at zero.

    Attributes:
        width: Channels that go out.

    Source: StyleGAN2 adds noise of one channel; GPEN puts as many channels of noise as there are features behind them.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        *,
        dim: int = 512,
        up: bool = False,
        bilinear: bool = False,
        noise: Injection = "added",
    ):
        super().__init__()
        if noise not in ("concatenated", "added", "none"):
            raise ValueError(f"StyledConvolution: noise is 'concatenated', 'added' or 'none', got {noise!r}.")
        self.noise = noise
        self.width = out_channels * (2 if noise == "concatenated" else 1)
        doubling: Resampling = "bilinear" if bilinear else "up"
        self.conv = ModulatedConvolution(channels, out_channels, dim=dim, resampling=doubling if up else "none")
        self.noise_weight = None if noise == "none" else nn.Parameter(torch.zeros(1))
        self.bias = nn.Parameter(torch.zeros(self.width))

    def forward(
        self, feature: Float[Tensor, "b c h w"], style: Float[Tensor, "b d"], noise: Tensor | None = None
    ) -> Float[Tensor, "b c2 h2 w2"]:
        """Gives the styled feature.

        Args:
            feature: What comes in.
            style: One vector per sample.
            noise: Of the grid that goes out; concatenated noise has `out_channels` channels, added noise as many or
                one. Without it nothing is added.

        Raises:
            ValueError: Noise is missing where it is concatenated, or is given where there is none.
        """
        feature = self.conv(feature, style)
        if self.noise_weight is None and noise is not None:
            raise ValueError("StyledConvolution: noise was given to a network that was built with noise='none'.")
        if self.noise == "concatenated" and (noise is None or noise.shape[1:] != feature.shape[1:]):
            got = "none" if noise is None else f"{tuple(noise.shape[1:])}"
            raise ValueError(
                f"StyledConvolution: concatenated noise has the shape of the features, {tuple(feature.shape[1:])}, "
                f"got {got}."
            )
        if noise is not None and self.noise_weight is not None:
            weighted = self.noise_weight * noise
            feature = torch.cat((feature, weighted), 1) if self.noise == "concatenated" else feature + weighted
        return scaled_leaky_relu(feature, self.bias)


class ToRGB(nn.Module):
    """A modulated 1×1 convolution to three channels, added to the picture of half the size.

    Args:
        channels: Channels that come in.
        dim: Width of a style.
        up: Whether there is a picture of half the size.
        bilinear: Whether that is doubled by interpolation.
    """

    def __init__(self, channels: int, *, dim: int = 512, up: bool = True, bilinear: bool = False):
        super().__init__()
        self.conv = ModulatedConvolution(channels, 3, kernel=1, dim=dim, demodulated=False)
        self.bias = nn.Parameter(torch.zeros(3))
        self.up = Blur((2, 1), up=2, gain=4.0) if up and not bilinear else None
        self.bilinear = up and bilinear

    def forward(
        self, feature: Float[Tensor, "b c h w"], style: Float[Tensor, "b d"], image: Tensor | None = None
    ) -> Float[Tensor, "b 3 h w"]:
        """Gives the picture at the feature's resolution.

        Args:
            feature: Of the level.
            style: One vector per sample.
            image: Of half the resolution.
        """
        answer = self.conv(feature, style) + self.bias.view(1, 3, 1, 1)
        if image is not None and self.bilinear:
            return answer + doubled(image)
        return answer if image is None or self.up is None else answer + self.up(image)


def doubled(feature: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h2 w2"]:
    """Gives a feature on twice the grid, by bilinear interpolation."""
    return F.interpolate(feature, scale_factor=2, mode="bilinear", align_corners=False)

"""GFP-GAN, clean version: a U-Net takes the damage away, and a StyleGAN2 decoder is modulated by what it found."""

import itertools
from functools import partial
from typing import NamedTuple, cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from codeprior.generators import SynthesisNetwork
from codeprior.images import check_image
from codeprior.layers import StyledConvolution, configured, stylegan_channels
from codeprior.shapes import Image


class Restoration(NamedTuple):
    """What GFP-GAN gives.

    Attributes:
        image: `b 3 size size`, signed, not clamped.
        pyramid: What the U-Net makes of it at the sides 8, 16, … `size`, signed; only training looks at these.
    """

    image: Image
    pyramid: list[Image]


@configured
class GFPGAN(nn.Module):
    """A U-Net, styles of its deepest feature, and a decoder whose features are scaled and shifted by the U-Net's.

    Args:
        decoder: A StyleGAN2 synthesis with added noise, `bilinear=True`.
        channels: Of the U-Net at the sides `size`, `size / 2`, … 4.

    Raises:
        ValueError: There is not a number of channels for each side, or the decoder has other noise.

    Note:
        Noise is stored with the model, so that it gives the same face twice; the published code draws it anew.

    Source: Wang et al. 2021 (GFP-GAN), the version without compiled operations.
    """

    scale = 1
    """Side of the answer over the side of what is restored."""

    def __init__(self, decoder: nn.Module, channels: tuple[int, ...]):
        super().__init__()
        self.decoder = cast(SynthesisNetwork, decoder)
        self.size = self.decoder.size
        sides = [2**power for power in range(3, self.size.bit_length())]
        if len(channels) != len(sides) + 1:
            raise ValueError(
                f"GFPGAN: at {self.size} px expected channels of {len(sides) + 1} sides, {self.size} to 4, got "
                f"{len(channels)}."
            )
        if any(cast(StyledConvolution, conv).noise != "added" for conv in self.decoder.convs):
            raise ValueError("GFPGAN: expected a decoder with noise='added'.")
        deep = channels[-1]
        self.look = nn.Conv2d(3, channels[0], 1)
        self.down = nn.ModuleList([UNetBlock(*pair, factor=0.5) for pair in itertools.pairwise(channels)])
        self.deepest = nn.Conv2d(deep, deep, 3, padding=1)
        self.to_styles = nn.Linear(deep * 16, self.decoder.slots * self.decoder.dim)
        rising = channels[::-1]
        self.up = nn.ModuleList([UNetBlock(*pair, factor=2.0) for pair in itertools.pairwise(rising)])
        self.pictures = nn.ModuleList([nn.Conv2d(width, 3, 1) for width in rising[1:]])
        widths = {side: width for width, side in self.decoder.noise_shapes}
        self.modulations = nn.ModuleList(
            [SplitModulation(found, widths[side]) for found, side in zip(rising[1:], sides, strict=True)]
        )
        for number, (_, side) in enumerate(self.decoder.noise_shapes):
            self.register_buffer(f"noise{number}", torch.randn(1, 1, side, side))

    @property
    def stride(self) -> int:
        """What the side is a multiple of, pixels: itself."""
        return self.size

    def forward(self, degraded: Image) -> Restoration:
        """Gives the restored faces, and the U-Net's own pictures of every side.

        Args:
            degraded: `b 3 size size`, signed.

        Raises:
            TypeError: The faces are of another type than the weights.
            ValueError: They are not `b 3 size size`.
        """
        check_image("GFPGAN", degraded, self, size=self.size)
        feature, skips = _leaky(self.look(degraded)), []
        for block in self.down:
            feature = block(feature)
            skips.append(feature)
        feature = _leaky(self.deepest(feature))
        styles = rearrange(self.to_styles(feature.flatten(1)), "b (n d) -> b n d", n=self.decoder.slots)
        pyramid, taps = [], {}
        for block, picture, modulation in zip(self.up, self.pictures, self.modulations, strict=True):
            feature = block(feature + skips.pop())
            pyramid.append(picture(feature))
            taps[feature.shape[-1]] = partial(cast(SplitModulation, modulation), found=feature)
        noise = [getattr(self, f"noise{number}") for number in range(len(self.decoder.noise_shapes))]
        return Restoration(self.decoder(styles, noise=noise, taps=taps), pyramid)

    @torch.no_grad()
    def restore(self, degraded: Image) -> Image:
        """Gives restored faces `b 3 size size`, signed, not clamped, for degraded ones of the same kind."""
        return self(degraded).image


class UNetBlock(nn.Module):
    """Two convolutions with a change of size between them, beside a 1×1 skip.

    Args:
        channels: Channels that come in.
        out_channels: Channels that go out.
        factor: Of the sides: 0.5 or 2.
    """

    def __init__(self, channels: int, out_channels: int, *, factor: float):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.skip = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.factor = factor

    def forward(self, feature: Tensor) -> Tensor:
        """Gives the feature at the other size."""
        inner = _leaky(self.conv2(self._resized(_leaky(self.conv1(feature)))))
        return inner + self.skip(self._resized(feature))

    def _resized(self, feature: Tensor) -> Tensor:
        return F.interpolate(feature, scale_factor=self.factor, mode="bilinear", align_corners=False)


class SplitModulation(nn.Module):
    """Scales and shifts the second half of a decoder's channels by what the U-Net found, and leaves the first.

    Args:
        channels: Of the U-Net's feature.
        out_channels: Of the decoder's feature, even.

    Source: CS-SFT (Wang et al. 2021, section 3.3).
    """

    def __init__(self, channels: int, out_channels: int):
        super().__init__()
        self.scale, self.shift = (
            nn.Sequential(
                nn.Conv2d(channels, channels, 3, padding=1), nn.LeakyReLU(0.2),
                nn.Conv2d(channels, out_channels // 2, 3, padding=1),
            )
            for _ in range(2)
        )  # fmt: skip

    def forward(self, feature: Tensor, *, found: Tensor) -> Tensor:
        """Gives the modulated feature.

        Args:
            feature: Of the decoder.
            found: Of the U-Net, on the same grid.
        """
        kept, moved = feature.chunk(2, 1)
        return torch.cat((kept, moved * self.scale(found) + self.shift(found)), 1)


def fresh(size: int = 512, *, dim: int = 512, multiplier: int = 2, narrow: float = 1.0) -> GFPGAN:
    """Gives an untrained GFP-GAN; the U-Net is half as wide as the decoder.

    Args:
        size: Side of the faces, pixels, a power of two.
        dim: Width of a style.
        multiplier: Widens features from a resolution of 64 on.
        narrow: Share of the decoder's channels that are kept.
    """
    decoder = SynthesisNetwork(size, dim=dim, multiplier=multiplier, narrow=narrow, bilinear=True)
    sides = [2**power for power in range(size.bit_length() - 1, 1, -1)]
    return GFPGAN(decoder, tuple(stylegan_channels(side, multiplier=multiplier, narrow=narrow / 2) for side in sides))


def _leaky(feature: Tensor) -> Tensor:
    return F.leaky_relu(feature, 0.2)

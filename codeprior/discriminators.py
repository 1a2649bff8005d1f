"""Networks that distinguish real images from generated ones, patch by patch or as a whole."""

import itertools
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from codeprior.images import check_image
from codeprior.layers.configured import configured
from codeprior.layers.equalised import (
    DownBlock,
    EqualisedConvolution,
    EqualisedLinear,
    batch_deviation,
    resolutions_of,
    stylegan_channels,
)
from codeprior.shapes import Image

__all__ = [
    "DiscriminatorNorm", "Judged", "PartDiscriminator", "PatchGAN", "StyleGANDiscriminator", "WaveletDiscriminator",
]  # fmt: skip

DiscriminatorNorm = Literal["batch", "sync", "group", "none", "spectral"]


@configured
class PatchGAN(nn.Module):
    """A fully convolutional discriminator: one score for every overlapping patch of the image.

    4×4 convolutions throughout: `layers` of stride 2, then two of stride 1, the last giving the scores; LeakyReLU 0.2.
    With 3 layers a score sees 70×70 pixels.

    Args:
        channels: Channels after the first convolution; they double with each further one, up to 8 times as many.
        layers: Convolutions of stride 2.
        norm: The normalisation after all but the first and last convolution. `"batch"`: BatchNorm, as released.
            `"sync"`: BatchNorm over all ranks (GPU only when distributed). `"group"`: GroupNorm, which depends neither
            on the batch nor on the ranks. `"none"`: nothing, and those convolutions have a bias.
            `"spectral"`: as `"none"`, with the largest singular value of every convolution held at one.

    Raises:
        ValueError: Unknown `norm`, or counts below 1.

    Note:
        Weights start as N(0, 0.02), norm gains as N(1, 0.02). In training mode BatchNorm makes the scores of an image
        depend on its batch, so real and made images go through in two calls, as released; with `"group"` or `"none"`
        one call on both together gives the same scores.

    Source:
        Isola et al. 2017 (pix2pix); keys `main.<i>` as in taming-transformers and DAEFR. Spectral norm: Miyato et al.
        2018.
    """

    def __init__(self, channels: int = 64, layers: int = 3, *, norm: DiscriminatorNorm = "batch"):
        super().__init__()
        if norm not in ("batch", "sync", "group", "none", "spectral"):
            raise ValueError(f"PatchGAN: norm is 'batch', 'sync', 'group', 'none' or 'spectral', got {norm!r}.")
        self.layers = layers
        bare = norm in ("none", "spectral")
        if channels < 1 or layers < 1:
            raise ValueError(f"PatchGAN: expected at least 1 channel and 1 layer, got {channels} and {layers}.")
        parts: list[nn.Module] = [nn.Conv2d(3, channels, 4, 2, 1), nn.LeakyReLU(0.2)]
        width = channels
        for number in range(1, layers + 1):
            wider = channels * min(2**number, 8)
            stride = 2 if number < layers else 1
            parts.append(nn.Conv2d(width, wider, 4, stride, 1, bias=bare))
            if not bare:
                parts.append(_norm(norm, wider))
            parts.append(nn.LeakyReLU(0.2))
            width = wider
        parts.append(nn.Conv2d(width, 1, 4, 1, 1))
        self.main = nn.Sequential(*parts)
        self.main.apply(_start)
        if norm == "spectral":
            for part in self.main:
                if isinstance(part, nn.Conv2d):
                    spectral_norm(part)

    def forward(self, image: Image) -> Float[Tensor, "b 1 h w"]:
        """Gives the scores, one per patch; above 0 for what looks real.

        Args:
            image: `b 3 H W`, signed; at least `3 · 2**layers` pixels a side.

        Raises:
            TypeError: The image is of another type than the weights.
            ValueError: It is not `b 3 H W`, or a side is too short for a score.
        """
        check_image("PatchGAN", image, self)
        _check_sides("PatchGAN", image, least=3 * 2**self.layers, advice="enlarge them, or build it with fewer layers")
        return self.main(image)


class Judged(NamedTuple):
    """Scores of images, and the discriminator's features.

    Attributes:
        scores: One for each image, of a `PartDiscriminator` one for each place; above 0 for what looks real.
        features: Of every convolutional layer, finest first.
    """

    scores: Float[Tensor, "b 1 ..."]
    features: list[Tensor]


class _Pyramid(nn.Module):
    """What discriminators of StyleGAN2's kind share: levels that halve the grid, and one score at their end."""

    def _add_levels(self, widths: Sequence[int]) -> None:
        self.blocks = nn.ModuleList([DownBlock(*pair) for pair in itertools.pairwise(widths)])
        self.last = EqualisedConvolution(widths[-1] + 1, widths[-1])
        self.gather = EqualisedLinear(widths[-1] * 16, widths[-1], activated=True)
        self.score = EqualisedLinear(widths[-1], 1)

    def forward(self, image: Image) -> Float[Tensor, "b 1"]:
        """Gives one score an image.

        Args:
            image: `b 3 size size`, signed.
        """
        return self.judge(image).scores

    def judge(self, image: Image) -> Judged:
        """Gives the scores, and the features of every level."""
        raise NotImplementedError


@configured
class StyleGANDiscriminator(_Pyramid):
    """The discriminator of StyleGAN2: a residual pyramid, what a batch differs by, and one score an image.

    Args:
        size: Side of the images, pixels, a power of two.
        multiplier: Widens features from a resolution of 64 on, see `codeprior.layers.stylegan_channels`.
        narrow: Share of the channels that are kept.
        group: How many samples are compared with each other, see `codeprior.layers.batch_deviation`. None, the whole
            batch, is GPEN's; StyleGAN2 has 4.

    Raises:
        ValueError: `size` is no power of two.

    Note:
        Scores depend on the batch that an image is in, so real and made images go through in two calls.

    Source:
        Karras et al. 2020 (StyleGAN2), as GPEN (Yang et al. 2021) uses it.
    """

    def __init__(self, size: int = 512, *, multiplier: int = 2, narrow: float = 1.0, group: int | None = None):
        super().__init__()
        sides = resolutions_of("StyleGANDiscriminator", size)
        widths = [stylegan_channels(side, multiplier=multiplier, narrow=narrow) for side in reversed(sides)]
        self.size, self.group = size, group
        self.start = EqualisedConvolution(3, widths[0], kernel=1)
        self._add_levels(widths)

    def judge(self, image: Image) -> Judged:
        """Gives the scores, and the features that feature matching compares.

        Args:
            image: `b 3 size size`, signed.

        Raises:
            TypeError: The images are of another type than the weights.
            ValueError: They are not `b 3 size size`.
        """
        check_image("StyleGANDiscriminator", image, self, size=self.size)
        features = [self.start(image)]
        for block in self.blocks:
            features.append(block(features[-1]))
        return _judged(self, features)


@configured
class WaveletDiscriminator(_Pyramid):
    """The discriminator of SWAGAN: StyleGAN2's pyramid, which sees Haar wavelets of the image anew at every size.

    The bands of an image have half its sides, so the pyramid begins there; each further level adds what it sees in the
    bands of the image at half the size. Fine detail has bands of its own, which a convolution need not find first.

    Args:
        size: Side of the images, pixels, a power of two from 16 on.
        multiplier: Widens features from a resolution of 64 on, see `codeprior.layers.stylegan_channels`.
        narrow: Share of the channels that are kept.
        group: How many samples are compared with each other, see `codeprior.layers.batch_deviation`.

    Raises:
        ValueError: `size` is no power of two, or is below 16.

    Source:
        Gal et al. 2021 (SWAGAN); VQFR (Gu et al. 2022) judges whole faces so in its first version.
    """

    def __init__(self, size: int = 512, *, multiplier: int = 2, narrow: float = 1.0, group: int | None = None):
        super().__init__()
        if size < 16:
            raise ValueError(f"WaveletDiscriminator: expected a size that is a power of two, 16 or more, got {size}.")
        sides = resolutions_of("WaveletDiscriminator", size)[:-1]
        widths = [stylegan_channels(side, multiplier=multiplier, narrow=narrow) for side in reversed(sides)]
        self.size, self.group = size, group
        self.looks = nn.ModuleList([EqualisedConvolution(12, width, kernel=1) for width in widths])
        self._add_levels(widths)

    def judge(self, image: Image) -> Judged:
        """Gives the scores, and the features of every level, finest first.

        Args:
            image: `b 3 size size`, signed.

        Raises:
            TypeError: The images are of another type than the weights.
            ValueError: They are not `b 3 size size`.
        """
        check_image("WaveletDiscriminator", image, self, size=self.size)
        bands = _haar(image)
        features = [self.looks[0](bands)]
        for look, block in zip(self.looks[1:], self.blocks, strict=True):
            # the low band is twice the mean of four pixels
            bands = _haar(bands[:, :3] / 2)
            features.append(block(features[-1]) + look(bands))
        return _judged(self, features)


@configured
class PartDiscriminator(nn.Module):
    """A fully convolutional discriminator of a part of a face, such as an eye: a score every fourth pixel.

    3×3 convolutions with the equalised weights of StyleGAN2: one, then twice a convolution that halves the grid and one
    that does not, and a last one that gives the scores.

    Args:
        channels: After the first convolution; twice as many on half of the grid, four times on a quarter.

    Raises:
        ValueError: `channels` is below 1.

    Note:
        `judge` also gives two features, after each change of the grid, for a style distance: the finer one and the
        coarser one. A score depends on its own crop alone, so real and made crops may go through together.

    Source:
        Wang et al. 2022 (RestoreFormer), which judges eyes and mouth with convolutions of StyleGAN2. Depth and widths
        are our choice.
    """

    def __init__(self, channels: int = 64):
        super().__init__()
        if channels < 1:
            raise ValueError(f"PartDiscriminator: expected at least 1 channel, got {channels}.")
        self.start = EqualisedConvolution(3, channels)
        self.fine = nn.Sequential(
            EqualisedConvolution(channels, 2 * channels, down=True), EqualisedConvolution(2 * channels, 2 * channels)
        )
        self.coarse = nn.Sequential(
            EqualisedConvolution(2 * channels, 4 * channels, down=True),
            EqualisedConvolution(4 * channels, 4 * channels),
        )
        self.score = EqualisedConvolution(4 * channels, 1, activated=False)

    def forward(self, crop: Image) -> Float[Tensor, "b 1 h w"]:
        """Gives the scores of crops, one for every place of a grid of a quarter of their side, rounded down.

        Args:
            crop: `b 3 H W`, signed; sides of 4 pixels or more.

        Raises:
            TypeError: The crops are of another type than the weights.
            ValueError: They are not `b 3 H W`, or a side is shorter than 4 pixels.
        """
        return self.judge(crop).scores

    def judge(self, crop: Image) -> Judged:
        """Gives the scores, and the two features that a style distance compares, finer first.

        Args:
            crop: `b 3 H W`, signed; sides of 4 pixels or more.

        Raises:
            TypeError: The crops are of another type than the weights.
            ValueError: They are not `b 3 H W`, or a side is shorter than 4 pixels.
        """
        check_image("PartDiscriminator", crop, self)
        _check_sides("PartDiscriminator", crop, least=4, advice="enlarge them")
        fine = self.fine(self.start(crop))
        coarse = self.coarse(fine)
        return Judged(self.score(coarse), [fine, coarse])


def _check_sides(who: str, image: Tensor, *, least: int, advice: str) -> None:
    height, width = image.shape[-2:]
    if min(height, width) < least:
        raise ValueError(f"{who}: expected sides of {least} pixels or more, got {width}×{height}; {advice}.")


def _judged(judge: StyleGANDiscriminator | WaveletDiscriminator, features: list[Tensor]) -> Judged:
    deviation = batch_deviation(features[-1], group=judge.group)
    features.append(judge.last(torch.cat((features[-1], deviation), 1)))
    return Judged(judge.score(judge.gather(features[-1].flatten(1))), features)


def _haar(image: Tensor) -> Tensor:
    """Gives the orthonormal Haar bands `b 4c h/2 w/2` of an image: low, across, down, diagonal."""
    four = rearrange(image, "b c (h y) (w x) -> (y x) b c h w", y=2, x=2)
    top, bottom = four[0] + four[1], four[2] + four[3]
    left, right = four[0] - four[1], four[2] - four[3]
    return torch.cat((top + bottom, left + right, top - bottom, left - right), 1) / 2


def _norm(kind: str, channels: int) -> nn.Module:
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "sync":
        return nn.SyncBatchNorm(channels)
    return nn.GroupNorm(math.gcd(32, channels), channels)


def _start(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0, 0.02)
    elif isinstance(module, (nn.BatchNorm2d, nn.SyncBatchNorm, nn.GroupNorm)):
        nn.init.normal_(module.weight, 1, 0.02)
        nn.init.zeros_(module.bias)

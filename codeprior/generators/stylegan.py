"""StyleGAN2: a mapping from normals to styles, and a synthesis from styles and noise to an image.

A style `w` scales the convolutions of the synthesis. One vector for all of them is the space W; a vector for each is
W+, `b n d`, which encoders of photographs like to give.

Source: Karras et al. 2020 (StyleGAN2). Noise with as many channels as the features, and noise that is concatenated, are
from GPEN (Yang et al. 2021).
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor, nn

from codeprior.layers import configured
from codeprior.layers.equalised import EqualisedLinear, pixel_norm, resolutions_of, stylegan_channels
from codeprior.layers.stylegan import Injection, StyledConvolution, ToRGB
from codeprior.shapes import Image

Noise = Sequence[Tensor]
"""One map for each styled convolution, coarsest first: one of 4×4, then two of each resolution."""


@configured
class MappingNetwork(nn.Module):
    """Takes normals to styles: brought to unit mean square, then through linear layers.

    Args:
        dim: Width of a latent and of a style.
        layers: Linear layers, each activated.
        rate: What their learning rate is multiplied by.
    """

    def __init__(self, dim: int = 512, *, layers: int = 8, rate: float = 0.01):
        super().__init__()
        self.dim = dim
        self.layers = nn.Sequential(*[EqualisedLinear(dim, dim, rate=rate, activated=True) for _ in range(layers)])

    def forward(self, z: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """Gives the style of each latent.

        Args:
            z: Of any scale; its length is lost.
        """
        return self.layers(pixel_norm(z))

    def mean(self, *, count: int = 4096, generator: torch.Generator) -> Float[Tensor, " d"]:
        """Gives the mean style, which truncation pulls towards.

        Args:
            count: Of how many draws.
            generator: Where they come from, on the CPU.
        """
        weight = next(self.parameters())
        drawn = torch.randn(count, self.dim, generator=generator).to(weight)
        with torch.no_grad():
            return self(drawn).mean(0)


@configured
class SynthesisNetwork(nn.Module):
    """Builds an image from a learned constant, styles, and noise.

    Args:
        size: Side of the images, pixels, a power of two.
        dim: Width of a style.
        multiplier: Widens features from a resolution of 64 on, see `codeprior.layers.stylegan_channels`.
        narrow: Share of the channels that are kept.
        noise: What its convolutions do with noise.
        bilinear: Whether grids are doubled by interpolation before a convolution, as in GFP-GAN's clean version,
            instead of by transposed convolutions and blurs.

    Attributes:
        injection: What its convolutions do with noise.
        slots: Styles that one image takes, `2 log2(size) - 2`; each belongs to a convolution, and the last to a
            picture.
        noise_shapes: Channels and side of each map of noise, coarsest first.

    Raises:
        ValueError: `size` is no power of two.
    """

    def __init__(
        self,
        size: int = 512,
        *,
        dim: int = 512,
        multiplier: int = 2,
        narrow: float = 1.0,
        noise: Injection = "added",
        bilinear: bool = False,
    ):
        super().__init__()
        sides = resolutions_of("SynthesisNetwork", size)
        widths = {side: stylegan_channels(side, multiplier=multiplier, narrow=narrow) for side in sides}
        self.size, self.dim, self.slots, self.injection = size, dim, 2 * len(sides), noise
        self._sides = sides
        self.noise_shapes = tuple((widths[side], side) for side in sides for _ in range(1 if side == 4 else 2))
        self.constant = nn.Parameter(torch.randn(1, widths[4], 4, 4))
        convs = [StyledConvolution(widths[4], widths[4], dim=dim, noise=noise)]
        pictures = [ToRGB(convs[0].width, dim=dim, up=False)]
        for side in sides[1:]:
            convs.append(
                StyledConvolution(convs[-1].width, widths[side], dim=dim, up=True, bilinear=bilinear, noise=noise)
            )
            convs.append(StyledConvolution(convs[-1].width, widths[side], dim=dim, noise=noise))
            pictures.append(ToRGB(convs[-1].width, dim=dim, bilinear=bilinear))
        self.convs, self.pictures = nn.ModuleList(convs), nn.ModuleList(pictures)

    def forward(
        self,
        styles: Float[Tensor, "b d"] | Float[Tensor, "b n d"],
        *,
        noise: Noise | None = None,
        taps: Mapping[int, Callable[[Tensor], Tensor]] | None = None,
    ) -> Image:
        """Gives the images of these styles.

        Args:
            styles: One for all convolutions, `b d`, or `slots` of them, `b n d`.
            noise: A map for each convolution, see `noise_shapes`; added noise may have one channel. Without it nothing
                is added; concatenated noise must be given.
            taps: At the sides of some grids, from 8 on: called with the feature after the first convolution of that
                side; the network goes on with what it returns.

        Returns:
            `b 3 size size`, signed, not clamped.

        Raises:
            ValueError: Styles or noise have other counts, or there is no grid of a tap's side.
        """
        taps = taps or {}
        if unknown := set(taps) - set(self._sides[1:]):
            raise ValueError(
                f"SynthesisNetwork: at {self.size} px taps stand at the sides {', '.join(map(str, self._sides[1:]))}, "
                f"got {', '.join(map(str, sorted(unknown)))}."
            )
        if styles.ndim == 2:
            styles = repeat(styles, "b d -> b n d", n=self.slots)
        if styles.ndim != 3 or styles.shape[1:] != (self.slots, self.dim):
            raise ValueError(
                f"SynthesisNetwork: at {self.size} px expected {self.slots} styles of width {self.dim}, b n d, or one, "
                f"b d; got {tuple(styles.shape)}."
            )
        maps: Sequence[Tensor | None] = [None] * len(self.convs) if noise is None else noise
        if len(maps) != len(self.convs):
            raise ValueError(
                f"SynthesisNetwork: at {self.size} px expected {len(self.convs)} maps of noise, got {len(maps)}; "
                "noise() draws them."
            )
        # not their length: that would be a constant of an exported graph
        feature = repeat(self.constant, "1 c h w -> b c h w", b=styles.shape[0])
        feature = self.convs[0](feature, styles[:, 0], maps[0])
        image = self.pictures[0](feature, styles[:, 1])
        for level in range(1, len(self.pictures)):
            up = 2 * level - 1
            feature = self.convs[up](feature, styles[:, up], maps[up])
            if (tap := taps.get(self._sides[level])) is not None:
                feature = tap(feature)
            feature = self.convs[up + 1](feature, styles[:, up + 1], maps[up + 1])
            image = self.pictures[level](feature, styles[:, up + 2], image)
        return image

    def noise(self, batch: int, *, generator: torch.Generator, channels: int | None = None) -> list[Tensor]:
        """Draws standard normal maps of noise, on the device and of the type of the weights.

        Args:
            batch: Samples.
            generator: Where the numbers come from, on the CPU.
            channels: Of every map; as many as the features have unless given. StyleGAN2 has 1.
        """
        return [
            torch.randn(batch, channels or width, side, side, generator=generator).to(self.constant)
            for width, side in self.noise_shapes
        ]


@configured
class StyleGANGenerator(nn.Module):
    """A mapping network and a synthesis network.

    Args:
        mapping: From normals to styles.
        synthesis: From styles to images.
    """

    def __init__(self, mapping: MappingNetwork, synthesis: SynthesisNetwork):
        super().__init__()
        self.mapping, self.synthesis = mapping, synthesis

    def forward(
        self,
        z: Float[Tensor, "b d"],
        *,
        noise: Noise | None = None,
        truncation: float = 1.0,
        mean: Float[Tensor, " d"] | None = None,
    ) -> Image:
        """Gives an image for each latent.

        Args:
            z: Normals.
            noise: As in `SynthesisNetwork.forward`.
            truncation: Share of the way from the mean style to its own that a style keeps; below 1, images are more
                alike and have fewer faults.
            mean: The mean style, see `MappingNetwork.mean`.

        Raises:
            ValueError: Styles are truncated, and there is no mean.
        """
        return self.synthesis(self.styles(z, truncation=truncation, mean=mean), noise=noise)

    def styles(self, z: Float[Tensor, "b d"], *, truncation: float = 1.0, mean: Tensor | None = None) -> Tensor:
        """Gives the style of each latent, `b d`.

        Args:
            z: Normals.
            truncation: As in `forward`.
            mean: The mean style.

        Raises:
            ValueError: Styles are truncated, and there is no mean.
        """
        styles = self.mapping(z)
        if truncation == 1:
            return styles
        if mean is None:
            raise ValueError("StyleGANGenerator: truncation needs mean=, the mean style; mapping.mean() gives it.")
        return mean + truncation * (styles - mean)


def mixed_styles(
    first: Float[Tensor, "b d"], second: Float[Tensor, "b d"], *, start: int, slots: int
) -> Float[Tensor, "b n d"]:
    """Gives styles of which the coarse ones are of one latent and the fine ones of another.

    Args:
        first: Of the slots before `start`.
        second: Of the others.
        start: Slot, from 0.
        slots: How many there are, `SynthesisNetwork.slots`.
    """
    coarse, fine = repeat(first, "b d -> b n d", n=start), repeat(second, "b d -> b n d", n=slots - start)
    return torch.cat((coarse, fine), 1)

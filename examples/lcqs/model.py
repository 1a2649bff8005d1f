"""LCQS: degraded and clean faces are two regions of one style space, and a learned shift leads between them."""

from typing import Literal, cast

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from codeprior.encoders import TimmEncoder
from codeprior.estimators import DamageEstimator, load_estimator
from codeprior.generators import SynthesisNetwork
from codeprior.images import check_image, to_unit
from codeprior.layers import StyledConvolution, configured
from codeprior.shapes import Image

from .settings import Network

_USUAL = (0.4, 0.6, 1.5, 3.0, -2.0)  # coordinates of damage, about halfway between clean and severe


@configured
class StyleEncoder(nn.Module):
    """A face as the styles that a generator would make it of.

    Args:
        backbone: Name of a timm model that takes a `norm_layer`, such as a ResNet.
        dim: Width of a style.
        slots: Styles a face.
        stride: Of the backbone's features.
        cells: The features are averaged to so many cells a side.
    """

    def __init__(
        self, backbone: str = "resnet34", *, dim: int = 512, slots: int = 14, stride: int = 32, cells: int = 4
    ):
        super().__init__()
        self.slots, self.cells = slots, cells
        self.features = TimmEncoder(backbone, dim, stride=stride, norm="group")
        self.to_styles = nn.Linear(dim * cells**2, slots * dim)

    def forward(self, image: Image) -> Float[Tensor, "b n d"]:
        """Gives the styles.

        Args:
            image: `b 3 H W`, signed.
        """
        cells = F.adaptive_avg_pool2d(self.features(image), self.cells)
        return rearrange(self.to_styles(cells.flatten(1)), "b (n d) -> b n d", n=self.slots)


@configured
class QualityShift(nn.Module):
    """The way from degraded to clean styles: one vector for everybody, and what the damage adds to it.

    `base + network(damage)`; the network's last layer starts at zero, so that it is one vector until `begin_at`.

    Args:
        dim: Width of a style.
        slots: Styles a face.
        space: `"w"`: the same shift in every slot. `"w+"`: one for each.
        hidden: Width of the hidden layer.

    Raises:
        ValueError: Another space.
    """

    usual: Tensor

    def __init__(self, dim: int = 512, *, slots: int = 14, space: Literal["w", "w+"] = "w", hidden: int = 64):
        super().__init__()
        if space not in ("w", "w+"):
            raise ValueError(f"QualityShift: space is 'w' or 'w+', got {space!r}.")
        self.slots, self.space = slots, space
        rows = slots if space == "w+" else 1
        self.base = nn.Parameter(torch.zeros(rows, dim))
        self.layers = nn.Sequential(nn.Linear(len(_USUAL), hidden), nn.SiLU(), nn.Linear(hidden, rows * dim))
        nn.init.zeros_(self.layers[-1].weight)  # pyright: ignore[reportArgumentType]
        nn.init.zeros_(self.layers[-1].bias)  # pyright: ignore[reportArgumentType]
        self.register_buffer("usual", torch.tensor(_USUAL), persistent=False)

    def forward(self, damage: Float[Tensor, "b 5"]) -> Float[Tensor, "b n d"]:
        """Gives the shift of each face, in every slot.

        Args:
            damage: As `DamageEstimator.coordinates` gives it.
        """
        own = rearrange(self.layers(damage - self.usual), "b (n d) -> b n d", n=len(self.base))
        return (self.base + own).expand(-1, self.slots, -1)

    @torch.no_grad()
    def begin_at(self, wanted: Float[Tensor, "f n d"], damage: Float[Tensor, "f 5"]) -> None:
        """Sets the shift to the mean way that faces of a damage have to go; the hidden layer stays as it is.

        The last layer is a ridge regression on the hidden one, in which directions with less than a hundredth of its
        variance count little.

        Args:
            wanted: Mean clean styles minus the styles of each degraded face; of a shift in W the mean over the slots is
                taken.
            damage: Of the same faces, as `DamageEstimator.coordinates` gives it.
        """
        rows = rearrange(wanted if self.space == "w+" else wanted.mean(1, keepdim=True), "f n d -> f (n d)").double()
        hidden = self.layers[:-1](damage - self.usual).double()
        mean = hidden.mean(0)
        hidden = hidden - mean
        ridge = torch.eye(len(mean)).to(hidden) * (0.01 * hidden.square().sum()).clamp(min=1e-12)
        weight = torch.linalg.solve(hidden.T @ hidden + ridge, hidden.T @ (rows - rows.mean(0)))
        last = cast(nn.Linear, self.layers[-1])
        last.weight.copy_(weight.T)
        last.bias.copy_(-(mean @ weight))
        self.base.copy_(rows.mean(0).view_as(self.base))


@configured
class LCQS(nn.Module):
    """Two encoders into one style space, a generator out of it, and the shift between the qualities.

    Args:
        high: Gives the styles of clean faces.
        low: Gives the styles of degraded faces.
        generator: Makes faces of styles.
        shift: From degraded to clean styles.
        estimator: Says how a face was damaged; it is frozen.

    Source: Dong et al. 2022 (Unpaired Face Restoration via Learnable Cross-Quality Shift), as far as slides about it
        say; see the README for what is ours.
    """

    scale = 1
    """Side of the answer over the side of what is restored."""

    def __init__(self, high: nn.Module, low: nn.Module, generator: nn.Module, shift: nn.Module, estimator: nn.Module):
        super().__init__()
        self.high, self.low = high, low
        self.generator, self.shift = cast(SynthesisNetwork, generator), cast(QualityShift, shift)
        self.estimator = cast(DamageEstimator, estimator.requires_grad_(False))

    @property
    def size(self) -> int:
        """Side of the faces, pixels; it takes no other."""
        return self.generator.size

    @property
    def stride(self) -> int:
        """What the side is a multiple of, pixels: itself."""
        return self.size

    def forward(self, degraded: Image, level: float | Float[Tensor, " b"] = 1.0) -> Image:
        """Gives faces restored to a level, `b 3 size size`, signed, not clamped.

        Args:
            degraded: `b 3 size size`, signed.
            level: How far along the shift: 0 gives the degraded face back, 1 is what was trained, more extrapolates.

        Raises:
            TypeError: The faces are of another type than the weights.
            ValueError: They are not `b 3 size size`.
        """
        return self.generator(self.styles(degraded, level))

    def styles(self, degraded: Image, level: float | Float[Tensor, " b"] = 1.0) -> Float[Tensor, "b n d"]:
        """Gives the styles of faces restored to a level.

        Args:
            degraded: As in `forward`.
            level: As in `forward`.

        Raises:
            TypeError: The faces are of another type than the weights.
            ValueError: They are not `b 3 size size`.
        """
        check_image("LCQS", degraded, self, size=self.size)
        far = level if isinstance(level, (int, float)) else rearrange(level.to(degraded).flatten(), "b -> b 1 1")
        return self.low(degraded) + far * self.shift(self.damage(degraded))

    def damage(self, image: Image) -> Float[Tensor, "b 5"]:
        """Gives what the estimator says of faces, with a gradient to their pixels.

        Args:
            image: `b 3 H W`, signed.
        """
        return self.estimator.coordinates(to_unit(image))

    @torch.no_grad()
    def restore(self, degraded: Image, *, level: float | Float[Tensor, " b"] = 1.0) -> Image:
        """Gives restored faces `b 3 size size`, signed, not clamped.

        Args:
            degraded: `b 3 size size`, signed.
            level: One for all faces or one for each, see `forward`.
        """
        return self(degraded, level)


def fresh(network: Network, *, prior: nn.Module | None = None) -> LCQS:
    """Gives an untrained LCQS; only its estimator is trained, with the weights that come with the library.

    Args:
        network: Sizes.
        prior: A trained generator of faces, or a `StyleGANGenerator` whose mapping gives the mean style that encoders
            then begin at; without it the generator is untrained too.

    Raises:
        ValueError: The prior has other sizes than the network, or noise that must be given.
    """
    generator = getattr(prior, "synthesis", prior)
    if generator is None:
        generator = SynthesisNetwork(
            network.size, dim=network.dim, multiplier=network.multiplier, narrow=network.narrow
        )
    if not isinstance(generator, SynthesisNetwork):
        raise ValueError(f"LCQS: expected a SynthesisNetwork as prior, got a {type(generator).__name__}.")
    if (generator.size, generator.dim) != (network.size, network.dim):
        raise ValueError(
            f"LCQS: the settings are for {network.size} px and styles of width {network.dim}, the prior is for "
            f"{generator.size} px and {generator.dim}; change one of them."
        )
    if any(cast(StyledConvolution, conv).noise == "concatenated" for conv in generator.convs):
        raise ValueError(
            "LCQS: the prior concatenates noise, so that it makes no face without; train one with noise='added'."
        )
    sizes = {"dim": network.dim, "slots": generator.slots, "stride": network.stride, "cells": network.cells}
    high = StyleEncoder(network.backbone, **sizes)
    low = StyleEncoder(network.backbone, **sizes)
    low.load_state_dict(high.state_dict())
    if (mapping := getattr(prior, "mapping", None)) is not None:
        mean = mapping.mean(generator=torch.Generator().manual_seed(0))
        for encoder in (high, low):
            encoder.to_styles.bias.data.copy_(repeat(mean, "d -> (n d)", n=generator.slots))
    return LCQS(high, low, generator, fresh_shift(network, slots=generator.slots), load_estimator())


def fresh_shift(network: Network, *, slots: int) -> QualityShift:
    """Gives an untrained shift.

    Args:
        network: Sizes, and whether every slot has a shift of its own.
        slots: Styles a face.
    """
    return QualityShift(network.dim, slots=slots, space=network.space, hidden=network.hidden)

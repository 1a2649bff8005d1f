"""GPEN: an encoder whose last vector is the latent of a StyleGAN2, and whose features are that network's noise."""

import itertools
from collections.abc import Sequence
from typing import Literal, NamedTuple, cast

import numpy as np
import torch
from einops import repeat
from jaxtyping import Float
from torch import Tensor, nn

from codeprior.generators import MappingNetwork, StyleGANGenerator, SynthesisNetwork
from codeprior.images import check_image
from codeprior.layers import (
    EqualisedConvolution,
    EqualisedLinear,
    Injection,
    configured,
    resolutions_of,
    stylegan_channels,
)
from codeprior.shapes import Image

from .settings import Network

Task = Literal["restoration", "colourisation", "inpainting", "segmentation"]
"""What a model was trained for; the tensors do not show it."""


class Encoded(NamedTuple):
    """What the encoder gives.

    Attributes:
        latent: In place of the normals that a StyleGAN2 is given.
        features: Of each resolution, finest first.
    """

    latent: Float[Tensor, "b d"]
    features: list[Tensor]


class Generated(NamedTuple):
    """What a forward pass gives.

    Attributes:
        image: Signed, not clamped; unit where the task is `segmentation`.
        styles: Of every slot, on the way of the gradient: the path length is of these.
    """

    image: Image
    styles: Float[Tensor, "b n d"]


class Encoder(nn.Module):
    """One blurred convolution of stride 2 a resolution, and a linear layer to the latent.

    Args:
        size: Side of the images, pixels, a power of two.
        dim: Width of the latent.
        multiplier: Widens features from a resolution of 64 on.
        narrow: Share of the channels.
    """

    def __init__(self, size: int, *, dim: int, multiplier: int, narrow: float):
        super().__init__()
        sides = reversed(resolutions_of("GPEN", size))
        widths = [stylegan_channels(side, multiplier=multiplier, narrow=narrow) for side in sides]
        self.start = EqualisedConvolution(3, widths[0], kernel=1)
        self.down = nn.ModuleList(
            [EqualisedConvolution(before, after, down=True) for before, after in itertools.pairwise(widths)]
        )
        self.to_latent = EqualisedLinear(16 * widths[-1], dim, activated=True)

    def forward(self, image: Image) -> Encoded:
        """Gives the latent of an image, and its features on the way."""
        features = [self.start(image)]
        for layer in self.down:
            features.append(layer(features[-1]))
        return Encoded(self.to_latent(features[-1].flatten(1)), features)


@configured
class GPEN(nn.Module):
    """A StyleGAN2 behind an encoder: the latent says whose face it is, the encoder's features where everything lies.

    Args:
        size: Side of the faces that go in, pixels, a power of two.
        scale: Side of the answer over that; 1 but for super-resolution, a power of two.
        dim: Width of a latent and of a style.
        layers: Of the mapping network.
        multiplier: Widens features from a resolution of 64 on.
        narrow: Share of the channels.
        noise: What the decoder does with the encoder's features. The paper concatenates them; `added` and `none` are
            its ablations.
        task: What it was trained for. For `segmentation` the network works on unit pixels; `restore` takes and gives
            signed ones all the same.

    Raises:
        ValueError: The size or the scale is no power of two.

    Source: Yang et al. 2021 (GPEN). Resolutions above that of the input get fresh noise, as in its super-resolution.
    """

    def __init__(
        self,
        size: int = 512,
        *,
        scale: int = 1,
        dim: int = 512,
        layers: int = 8,
        multiplier: int = 2,
        narrow: float = 1.0,
        noise: Injection = "concatenated",
        task: Task = "restoration",
    ):
        super().__init__()
        if task not in ("restoration", "colourisation", "inpainting", "segmentation"):
            raise ValueError(
                f"GPEN: task is 'restoration', 'colourisation', 'inpainting' or 'segmentation', got {task!r}."
            )
        if scale < 1 or scale & (scale - 1):
            raise ValueError(f"GPEN: expected a scale that is a power of two, got {scale}.")
        self.size, self.scale, self.task = size, scale, task
        widths = {"dim": dim, "multiplier": multiplier, "narrow": narrow}
        self.encoder = Encoder(size, **widths)
        self.generator = StyleGANGenerator(
            MappingNetwork(dim, layers=layers), SynthesisNetwork(size * scale, **widths, noise=noise)
        )

    @property
    def stride(self) -> int:
        """The only side that it takes, pixels: the latent is of a whole face."""
        return self.size

    @property
    def synthesis(self) -> SynthesisNetwork:
        """The decoder."""
        return cast(SynthesisNetwork, self.generator.synthesis)

    def forward(self, degraded: Image, *, noise: Sequence[Tensor] | None = None) -> Generated:
        """Gives the restored faces, and their styles for the path length.

        Args:
            degraded: `b 3 size size`, signed; unit where the task is `segmentation`.
            noise: Normals for the resolutions above the input's, two maps each, coarsest first; see `fresh_noise`.

        Raises:
            TypeError: The faces are of another type than the weights.
            ValueError: They are not `b 3 size size`.
        """
        check_image("GPEN", degraded, self, size=self.size)
        encoded = self.encoder(degraded)
        styles = repeat(self.generator.styles(encoded.latent), "b d -> b n d", n=self.synthesis.slots)
        maps = None if self.synthesis.injection == "none" else self.noise_of(encoded, noise)
        return Generated(self.synthesis(styles, noise=maps), styles)

    def noise_of(self, encoded: Encoded, above: Sequence[Tensor] | None = None) -> list[Tensor]:
        """Gives the maps that the decoder takes for noise, coarsest first: each feature twice, the coarsest once.

        Args:
            encoded: Of the degraded faces.
            above: Normals for the resolutions above the input's.
        """
        coarse, *finer = reversed(encoded.features)
        return [coarse, *[feature for feature in finer for _ in range(2)], *(above or ())]

    def fresh_noise(self, batch: int, *, generator: torch.Generator) -> list[Tensor] | None:
        """Draws normals for the resolutions above the input's; None where there are none.

        Args:
            batch: Faces.
            generator: Where they come from, on the CPU.
        """
        weight = self.synthesis.constant
        shapes = self._fresh_shapes()
        return [torch.randn(batch, *shape, generator=generator).to(weight) for shape in shapes] or None

    @torch.no_grad()
    def restore(self, degraded: Image, *, seed: int = 0) -> Image:
        """Gives restored faces `b 3 size·scale size·scale`, signed, not clamped, for degraded ones `b 3 size size`.

        Args:
            degraded: Signed.
            seed: Of the noise above the input's resolution: the same for every face and every call, so that a face does
                not depend on those beside it.
        """
        noise = self._seeded_noise(seed, degraded)
        if self.task == "segmentation":
            # what the network gives is unbounded, which `to_signed` would refuse
            return 2 * self((degraded + 1) / 2, noise=noise).image - 1
        return self(degraded, noise=noise).image

    def _fresh_shapes(self) -> list[tuple[int, int, int]]:
        if self.synthesis.injection == "none":
            return []
        return [(width, side, side) for width, side in self.synthesis.noise_shapes if side > self.size]

    def _seeded_noise(self, seed: int, degraded: Image) -> list[Tensor] | None:
        # NumPy's normals: an exported graph cannot hold a generator of PyTorch's, but it holds these as constants
        rng = np.random.default_rng(seed)
        drawn = [torch.from_numpy(rng.standard_normal(shape, dtype=np.float32)) for shape in self._fresh_shapes()]
        # not the length of the batch: that would be a constant of the graph
        batch = degraded.shape[0]
        return [repeat(one.to(degraded), "c h w -> b c h w", b=batch) for one in drawn] or None


def generator(network: Network) -> StyleGANGenerator:
    """Gives a fresh prior of these sizes, for the first stage."""
    return gpen(network).generator


def gpen(network: Network) -> GPEN:
    """Gives a fresh model of these sizes.

    Args:
        network: Sizes.

    Raises:
        ValueError: The input is larger than the output, or not a power of two times smaller.
    """
    size = network.input_size or network.size
    if network.size % size:
        raise ValueError(
            f"GPEN: {size} px go in and {network.size} px come out; the output is a multiple of the input."
        )
    return GPEN(
        size, scale=network.size // size, dim=network.dim, layers=network.layers, multiplier=network.multiplier,
        narrow=network.narrow, noise=network.noise,
    )  # fmt: skip


def begin(model: GPEN, prior: StyleGANGenerator) -> None:
    """Gives a model's decoder the weights of a prior.

    Args:
        model: Changed in place.
        prior: Of the same sizes. A model without noise may begin from one whose noise was added: those weights are left
            out.

    Raises:
        ValueError: Its sizes or its noise are others.
    """
    state, mine = prior.state_dict(), model.generator.state_dict()
    had, wanted = prior.synthesis.injection, model.synthesis.injection
    if had == "added" and wanted == "none":
        state = {key: value for key, value in state.items() if not key.endswith(".noise_weight")}
    shapes = {key: value.shape for key, value in state.items()}
    if had != wanted and not (had == "added" and wanted == "none"):
        raise ValueError(
            f"begin: the prior's noise is {had}, the model's is {wanted}; train a prior with {wanted} noise."
        )
    if shapes != {key: value.shape for key, value in mine.items()}:
        raise ValueError("begin: the prior has other sizes than the model; build both from one Network.")
    model.generator.load_state_dict(state)

"""Penalties on gradients, which keep a GAN's two networks smooth: R1 and the path length.

Both need gradients of gradients and cost about as much as a step. They are therefore added only every few steps, with a
weight that is larger by that number of steps.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from codeprior.shapes import Image


class PathPenalty(NamedTuple):
    """What `path_length_penalty` gives.

    Attributes:
        penalty: The mean squared distance of the lengths from their running mean.
        mean: The running mean after this step, detached.
    """

    penalty: Float[Tensor, ""]
    mean: Float[Tensor, ""]


def r1_penalty(real: Float[Tensor, "b 1"], images: Image) -> Float[Tensor, ""]:
    """Gives the mean over samples of the squared norm of the discriminator's gradient at real images.

    Args:
        real: The discriminator's answers to `images`.
        images: Real ones, which require a gradient.

    Source:
        Mescheder et al. 2018. StyleGAN2 and GPEN add it every 16 steps, with the weight 16 · 10 / 2.
    """
    (slope,) = torch.autograd.grad(real.sum(), images, create_graph=True)
    return slope.square().flatten(1).sum(1).mean()


def path_lengths(
    images: Image,
    styles: Float[Tensor, "b n d"],
    *,
    generator: torch.Generator | None = None,
    draw: Image | None = None,
) -> Float[Tensor, " b"]:
    """Gives how much each image changes, in a random direction of pixels, with a step of its styles.

    `√ mean_n Σ_d (∂⟨image, y⟩ / ∂style)²` with `y` normal, divided by the root of the number of pixels.

    Args:
        images: That the generator made of `styles`.
        styles: One for each slot, which require a gradient.
        generator: Where `y` comes from, on the CPU.
        draw: `y` itself, standard normals of the images' shape, instead.

    Raises:
        ValueError: There is neither `generator` nor `draw`.

    Source:
        Karras et al. 2020 (StyleGAN2), section 3.2.
    """
    if draw is None:
        if generator is None:
            raise ValueError("path_lengths: expected generator= or draw=, got neither.")
        draw = torch.randn(images.shape, generator=generator).to(images)
    scale = math.sqrt(images.shape[-2] * images.shape[-1])
    (slope,) = torch.autograd.grad((images * draw / scale).sum(), styles, create_graph=True)
    return slope.square().sum(2).mean(1).sqrt()


def path_length_penalty(lengths: Float[Tensor, " b"], mean: Float[Tensor, ""], *, decay: float = 0.01) -> PathPenalty:
    """Gives the mean squared distance of path lengths from their running mean.

    Args:
        lengths: Of the samples, see `path_lengths`.
        mean: The running mean before this step; 0 at first.
        decay: Share of the distance to the mean of `lengths` by which the running mean moves.

    Note:
        The gradient also goes through the share of the running mean that is of this step, as in GPEN's code.

    Source:
        Karras et al. 2020 (StyleGAN2). StyleGAN2 and GPEN add it every 4 steps, with the weight 4 · 2.
    """
    moved = mean + decay * (lengths.mean() - mean)
    return PathPenalty((lengths - moved).square().mean(), moved.detach())

"""How much the textures of two images differ: the distance of their Gram matrices, which ignore where a feature occurs.

It takes the maps that `PerceptualLoss.features` gives, so that the network runs once for both losses.
"""

from collections.abc import Sequence
from typing import Literal

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor


def style_loss(
    first: Sequence[Float[Tensor, "b _ _ _"]],
    second: Sequence[Float[Tensor, "b _ _ _"]],
    *,
    distance: Literal["absolute", "squared"] = "absolute",
    layer_weights: Sequence[float] | None = None,
) -> Float[Tensor, ""]:
    """Gives `Σ over layers of weight · mean |G(f) − G(g)|`, or of the squared difference.

    Args:
        first: Maps of the images, one `b c h w` a layer.
        second: Maps of the targets, of the same shapes.
        distance: `"absolute"` or `"squared"`.
        layer_weights: Weight of each layer; 1 unless given.

    Returns:
        The loss, a mean over batch and matrix entries, a sum over layers.

    Raises:
        ValueError: The numbers of maps or weights differ, or `distance` is unknown.

    Note:
        Entries of a Gram matrix are small, so the weights are large. VQFR gives the absolute distance of unit-length
        VGG-16 features the weight 2000. RestoreFormer gives the squared one 1e9, and the absolute one of its face
        components 2000, with layer weights 0.5 and 1.

    Source:
        Gatys et al. 2016; the weights are those of VQFR (Gu et al. 2022) and RestoreFormer (Wang et al. 2022).
    """
    weights = [1.0] * len(first) if layer_weights is None else list(layer_weights)
    if not len(first) == len(second) == len(weights):
        raise ValueError(
            f"style_loss: expected as many maps of either and weights, got {len(first)}, {len(second)}, {len(weights)}."
        )
    if distance not in ("absolute", "squared"):
        raise ValueError(f"style_loss: distance is 'absolute' or 'squared', got {distance!r}.")
    layers = []
    for mine, theirs, weight in zip(first, second, weights, strict=True):
        difference = gram(mine) - gram(theirs)
        layers.append(weight * (difference.abs() if distance == "absolute" else difference**2).mean())
    return torch.stack(layers).sum()


def gram(features: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c c"]:
    """Gives the Gram matrix `Σ over places of f_i f_j / (c · h · w)`.

    Args:
        features: One map, `b c h w`.
    """
    size = features.shape[1] * features.shape[2] * features.shape[3]
    return einsum(features, features, "b i h w, b j h w -> b i j") / size

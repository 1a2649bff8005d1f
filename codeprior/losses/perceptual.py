"""How different two images look to a trained network: LPIPS, and the same formula on other networks.

The features of every chosen layer are scaled to unit length over channels; the squared difference is weighted by
channel, averaged over places and summed over layers.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from codeprior.images import check_pixels
from codeprior.losses.features import check_network_name, feature_network, read_weights
from codeprior.shapes import Image

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


class PerceptualLoss(nn.Module):
    """The distance of two images in the features of a frozen network; always in evaluation mode, without dropout.

    `Σ over layers of mean over places of Σ over channels of head · (f̂(x) − f̂(y))²`, with `f̂ = f / (‖f‖ + 1e-10)`.

    Args:
        backbone: `"vgg16"` (LPIPS), `"vgg19"`, `"mobilenet_v2"`, `"timm:NAME"`, or any module that takes a normalised
            image and gives maps, with an attribute `channels` (and, if not ImageNet's, `mean` and `std`).
        weights: For a name: the weights file's path, `"pretrained"` (timm only), or `"random"`, if a checkpoint with
            these weights is loaded afterwards. Nothing is downloaded.
        layers: Which layers to compare; each network has its own default.
        heads: Path of trained channel weights, keys `lin<i>.model.1.weight` as in LPIPS. Without them every channel
            has the weight 1, and the figures are several times larger than LPIPS's.
        sha256: Digest that a pickled weights file must have; see `feature_network`.

    Attributes:
        net: The feature network.

    Raises:
        ValueError: A name without `weights`, an unknown name, or a file that is not what it should be.

    Note:
        Under `torch.autocast` the network runs in half precision; lengths, differences and their means are float32.

        Keys of the state are those of LPIPS in taming-transformers (`scaling_layer.*`, `net.slice<i>.*`,
        `lin<i>.model.1.weight`), so a reference checkpoint's `loss.perceptual_loss.*` loads as it is. The reference
        leaves dropout on in front of its heads while training; here there is none.

    Source:
        Zhang et al. 2018 (LPIPS). Where all features of a place are zero, the gradient is zero here and NaN in LPIPS.
    """

    scaling_layer: "_Scaling"

    def __init__(
        self,
        backbone: str | nn.Module = "vgg16",
        *,
        weights: str | Path | None = None,
        layers: Sequence[int] | None = None,
        heads: str | Path | None = None,
        sha256: str | None = None,
    ):
        super().__init__()
        if isinstance(backbone, str):
            check_network_name("PerceptualLoss", backbone)
            if weights is None:
                raise ValueError(
                    f"PerceptualLoss: {backbone!r} needs weights=: the path of its file, 'pretrained' for timm, or "
                    "'random' if a checkpoint fills it afterwards."
                )
            backbone = feature_network(backbone, weights=weights, layers=layers, sha256=sha256)
        elif weights is not None or layers is not None or sha256 is not None:
            raise ValueError("PerceptualLoss: an injected network brings its own weights and layers; leave them out.")
        self.net = backbone
        self.scaling_layer = _Scaling(
            getattr(backbone, "mean", _IMAGENET_MEAN), getattr(backbone, "std", _IMAGENET_STD)
        )
        widths: Any = backbone.channels
        self._heads = [f"lin{number}" for number in range(len(widths))]
        for name, width in zip(self._heads, widths, strict=True):
            self.add_module(name, _Head(width))
        if heads is not None:
            self._load_heads(heads)
        self.requires_grad_(False)
        self.train(False)

    def forward(self, image: Image, target: Image) -> Float[Tensor, ""]:
        """Gives the mean distance over the batch.

        Args:
            image: `b 3 H W`, RGB, signed; the gradient flows to it.
            target: `b 3 H W`, RGB, signed.

        Raises:
            TypeError: They are no floating-point images.
            ValueError: They are not `b 3 H W`, or the shapes differ.
        """
        for given in (image, target):
            check_pixels("PerceptualLoss", given)
        if image.shape != target.shape:
            raise ValueError(
                f"PerceptualLoss: expected image and target of one shape, got {tuple(image.shape)} and "
                f"{tuple(target.shape)}; resize one of them."
            )
        return self.compare(self.features(image), self.features(target)).mean()

    def features(self, image: Image) -> list[Tensor]:
        """Gives the unit-length features of an image, one map `b c h w` a layer; reusable for a fixed target.

        Args:
            image: `b 3 H W`, RGB, signed.

        Raises:
            TypeError: They are no floating-point images.
            ValueError: They are not `b 3 H W`.
        """
        check_pixels("PerceptualLoss", image)
        return [_unit_length(_full(map_)) for map_ in self.net(self.scaling_layer(image))]

    def compare(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> Float[Tensor, " b"]:
        """Gives each image's distance from what `features` gave of both.

        Args:
            first: Maps of the images.
            second: Maps of the targets.
        """
        distance = torch.zeros((), device=first[0].device, dtype=first[0].dtype)
        # under autocast the network's convolutions run in half precision; the differences, which are small, do not
        kind = first[0].device.type
        with torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext():
            for name, mine, theirs in zip(self._heads, first, second, strict=True):
                distance = distance + self.get_submodule(name)((mine - theirs) ** 2).mean((1, 2, 3))
        return distance

    def train(self, mode: bool = True) -> "PerceptualLoss":
        """Leaves the module in evaluation mode, whatever `mode` is."""
        return super().train(False)

    def _load_heads(self, path: str | Path) -> None:
        state = read_weights(path)
        wanted = {f"{name}.model.1.weight" for name in self._heads}
        if not wanted <= set(state):
            raise ValueError(
                f"PerceptualLoss: {Path(path).name} lacks the heads {', '.join(sorted(wanted - set(state)))}."
            )
        self.load_state_dict({key: state[key] for key in wanted}, strict=False)


class _Scaling(nn.Module):
    """From signed pixels to what the network expects: `(x − shift) / scale`."""

    shift: Tensor
    scale: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.register_buffer("shift", torch.tensor([2 * value - 1 for value in mean]).reshape(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([2 * value for value in std]).reshape(1, 3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        return (image - self.shift) / self.scale


class _Head(nn.Module):
    """A weight for each channel. An identity stands where the reference has its dropout, so that the keys agree."""

    def __init__(self, channels: int):
        super().__init__()
        weigh = nn.Conv2d(channels, 1, 1, bias=False)
        nn.init.ones_(weigh.weight)
        self.model = nn.Sequential(nn.Identity(), weigh)

    def forward(self, difference: Tensor) -> Tensor:
        return self.model(difference)


def _full(features: Tensor) -> Tensor:
    return features.float() if features.dtype in (torch.bfloat16, torch.float16) else features


def _unit_length(features: Tensor) -> Tensor:
    return features / (torch.linalg.vector_norm(features, dim=1, keepdim=True) + 1e-10)

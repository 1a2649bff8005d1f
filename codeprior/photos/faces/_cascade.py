"""The three networks of MTCNN, filled from the weights that lie beside this file.

Their numbers are those of the ONNX files in mtcnn-runtime 1.0.0 (Apache-2.0), which come from
TropComplique/mtcnn-pytorch and kpzhang93/MTCNN_face_detection_alignment (both MIT). That package itself cannot be
depended on: it brings a build of OpenCV that needs the libraries of a desktop and overwrites the headless one.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float, Int
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from codeprior.kernels import prelu_convolution


class Networks(NamedTuple):
    """The cascade, in the order in which it runs.

    Attributes:
        propose: Image `1 3 H W` to the places, every two pixels, that may be faces, with scores and offsets.
        refine: Patches `n 3 24 24` to offsets `n 4` and face scores `n`.
        place: Patches `n 3 48 48` to points `n 10` (five x, then five y), offsets `n 4` and face scores `n`.
    """

    propose: "Proposals"
    refine: "Patches"
    place: "Patches"


class Proposals(nn.Module):
    """P-Net: fully convolutional, for whole images."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(
            *_convolution(3, 10, 3), nn.MaxPool2d(2, 2, ceil_mode=True), *_convolution(10, 16, 3),
            *_convolution(16, 32, 3),
        )  # fmt: skip
        self.score = nn.Conv2d(32, 2, 1)
        self.offsets = nn.Conv2d(32, 4, 1)

    def forward(
        self, image: Float[Tensor, "1 3 H W"], least: float
    ) -> tuple[Int[Tensor, "n 2"], Float[Tensor, "n"], Float[Tensor, "n 4"]]:
        """Gives row and column, face score and box offsets of every 12-pixel window whose score is above `least`."""
        found = rearrange(_through(self.trunk, image), "1 c h w -> h w c")
        # of two classes the second's share is the sigmoid of their difference; few places need offsets
        weights, biases = (part[1:] - part[:1] for part in self.score.parameters())
        scores = (found @ rearrange(weights, "1 c 1 1 -> c") + biases).sigmoid()
        rows, columns = torch.nonzero(scores > least, as_tuple=True)
        offsets = F.linear(found[rows, columns], rearrange(self.offsets.weight, "o c 1 1 -> o c"), self.offsets.bias)
        return torch.stack([rows, columns], 1), scores[rows, columns], offsets


class Patches(nn.Module):
    """R-Net or O-Net: one answer for each patch.

    Args:
        convolutions: Channels and kernel of each.
        pools: Kernel of the pooling after each convolution but the last; 0 for none.
        features: What the last convolution leaves of a patch, flattened.
        width: Of the layer after it.
        points: Whether it also gives the five points.
    """

    def __init__(
        self,
        convolutions: tuple[tuple[int, int], ...],
        pools: tuple[int, ...],
        *,
        features: int,
        width: int,
        points: bool,
    ):
        super().__init__()
        channels, parts = 3, []
        for (width_out, kernel), pool in zip(convolutions, (*pools, 0), strict=True):
            parts += _convolution(channels, width_out, kernel)
            parts += [nn.MaxPool2d(pool, 2, ceil_mode=True)] if pool else []
            channels = width_out
        self.trunk = nn.Sequential(*parts)
        self.dense = nn.Sequential(nn.Linear(features, width), nn.PReLU(width))
        self.score = nn.Linear(width, 2)
        self.offsets = nn.Linear(width, 4)
        self.points = nn.Linear(width, 10) if points else None

    def forward(
        self, patches: Float[Tensor, "n 3 s s"]
    ) -> tuple[Float[Tensor, "n p"], Float[Tensor, "n 4"], Float[Tensor, "n"]]:
        """Gives points (ten numbers or none), box offsets and face scores."""
        # the weights were trained in a framework that flattens column by column
        found = self.dense(rearrange(_through(self.trunk, patches), "n c h w -> n (c w h)"))
        points = self.points(found) if self.points is not None else found[:, :0]
        return points, self.offsets(found), self.score(found).softmax(1)[:, 1]


def face_features(images: Float[Tensor, "b 3 H W"]) -> list[Float[Tensor, "b c h w"]]:
    """Gives the four feature maps of O-Net's convolutions, for a perceptual distance that needs no further weights.

    Args:
        images: Unit, [0, 1], of at least 48 pixels a side.
    """
    values, found = (images.float() * 255 - 127.5) / 128, []
    for layer in networks(images.device).place.trunk:
        values = layer(values)
        if isinstance(layer, nn.PReLU):
            found.append(values)
    return found


def networks(device: str | torch.device) -> Networks:
    """Gives the networks with their trained weights, for inference.

    Args:
        device: Where they run.
    """
    found = Networks(
        Proposals(),
        Patches(((28, 3), (48, 3), (64, 2)), (3, 3), features=576, width=128, points=False),
        Patches(((32, 3), (64, 3), (64, 3), (128, 2)), (3, 3, 2), features=1152, width=256, points=True),
    )
    tensors = load_file(Path(__file__).with_name("mtcnn.safetensors"))
    for name, network in found._asdict().items():
        part = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
        network.load_state_dict(part)
        network.to(device).eval().requires_grad_(False)
    return found


def _through(trunk: nn.Sequential, values: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o y x"]:
    parts = [*trunk, None]
    for layer, slopes, after in zip(parts, parts[1:], parts[2:], strict=False):
        if isinstance(layer, nn.Conv2d) and isinstance(slopes, nn.PReLU) and layer.bias is not None:
            pool = after.kernel_size if isinstance(after, nn.MaxPool2d) else 0
            assert isinstance(pool, int)  # for the types alone: windows are squares here
            values = prelu_convolution(values, layer.weight, layer.bias, slopes.weight, pool=pool)
    return values


def _convolution(channels: int, width: int, kernel: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, width, kernel), nn.PReLU(width)]

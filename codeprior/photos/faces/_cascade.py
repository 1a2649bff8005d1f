"""The three networks of MTCNN, filled from the weights that lie beside this file.

Their numbers are those of the ONNX files in mtcnn-runtime 1.0.0 (Apache-2.0), which come from
TropComplique/mtcnn-pytorch and kpzhang93/MTCNN_face_detection_alignment (both MIT). That package itself cannot be
depended on: it brings a build of OpenCV that needs the libraries of a desktop and overwrites the headless one.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn


class Networks(NamedTuple):
    """The cascade, in the order in which it runs.

    Attributes:
        propose: Image `b 3 H W` to offsets `b 4 h w` and face scores `b h w`, a place every two pixels.
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

    def forward(self, image: Float[Tensor, "b 3 H W"]) -> tuple[Float[Tensor, "b 4 h w"], Float[Tensor, "b h w"]]:
        """Gives box offsets and face scores of every window of 12 pixels."""
        found = self.trunk(image)
        return self.offsets(found), self.score(found).softmax(1)[:, 1]


class Patches(nn.Module):
    """R-Net or O-Net: one answer for each patch.

    Args:
        convolutions: Channels and kernel of each.
        pools: Kernel of the pooling after each convolution but the last; 0 for none.
        features: What the last convolution leaves of a patch, flattened.
        width: Of the layer behind it.
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
        found = self.dense(rearrange(self.trunk(patches), "n c h w -> n (c w h)"))
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


def _convolution(channels: int, width: int, kernel: int) -> list[nn.Module]:
    return [nn.Conv2d(channels, width, kernel), nn.PReLU(width)]

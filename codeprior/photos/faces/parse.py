"""Face parsers: weights that keep paste-back to the face, so that hair and background stay as they were."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from codeprior.extras import needed
from codeprior.photos.faces._bisenet import BiSeNet

Parser = Callable[[Float[Tensor, "3 size size"]], Float[Tensor, "size size"]]
"""A restored crop, unit, to its weights in [0, 1]; what `paste` takes as `mask`."""

# of CelebAMask-HQ: skin, brows, eyes, glasses, ears, earrings, nose, mouth, lips; not 0 background, 14 neck,
# 15 necklace, 16 cloth, 17 hair, 18 hat
_FACE = tuple(range(1, 14))
_SIDE = 512  # pixels that the published networks were trained at
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's
_SPARE = ("num_batches_tracked", "conv_out16.", "conv_out32.", "cp.resnet.fc.")  # not needed, or in training only


class FaceParser:
    """Weights of a face from a network that segments its parts.

    Args:
        network: Normalised images `1 3 512 512` to scores `1 19 512 512` of CelebAMask-HQ's classes.
        device: Where a torch network runs.
        softness: Deviation of the blur at the border of the face, as a share of the side.
    """

    def __init__(
        self, network: Callable[[Tensor], Tensor], *, device: str | torch.device = "cpu", softness: float = 0.015
    ):
        self.network, self.device, self.softness = network, torch.device(device), softness

    @torch.no_grad()
    def __call__(self, crop: Float[Tensor, "3 size size"]) -> Float[Tensor, "size size"]:
        """Gives one inside the face and zero outside, with a soft border.

        Args:
            crop: An aligned face, unit.

        Raises:
            ValueError: There is no face in it: with nothing pasted, the unchanged photograph would look like a result.
        """
        image = F.interpolate(crop[None].float(), size=(_SIDE, _SIDE), mode="bilinear", antialias=True).to(self.device)
        mean, deviation = (image.new_tensor(values)[:, None, None] for values in (_MEAN, _DEVIATION))
        classes = self.network((image - mean) / deviation).argmax(1)
        inside = torch.isin(classes, classes.new_tensor(_FACE)).float()
        if inside.mean() < 0.02:
            raise ValueError("the parser sees no face in the crop; leave --parser out for this photograph")
        weights = _blurred(inside[None], self.softness * _SIDE)
        size = list(crop.shape[1:])
        return F.interpolate(weights, size=size, mode="bilinear", antialias=True)[0, 0].clamp(0, 1).cpu()


def parser(weights: str | Path, *, device: str = "cpu") -> FaceParser:
    """Gives a face parser from a weight file.

    Args:
        weights: facexlib's `parsing_bisenet.pth` or the same tensors as safetensors; or an ONNX network (`.onnx`, such
            as uniface's BiSeNet files) with one input `1 3 512 512` and the 19 classes of CelebAMask-HQ as its first
            output.
        device: Where a torch network runs; ONNX runs on the CPU.

    Raises:
        FileNotFoundError: The file is not there; nothing is ever downloaded here.
        ValueError: It holds something else.
        ImportError: An ONNX file needs the package onnxruntime.
    """
    path = Path(weights)
    if not path.is_file():
        raise FileNotFoundError(f"parser: {path} does not exist; give a weight file, because the library brings none.")
    if path.suffix.lower() == ".onnx":
        return FaceParser(_onnx(path))
    from codeprior.checkpoints.checkpoint import read_checkpoint

    state = {
        name.removeprefix("module."): tensor
        for name, tensor in read_checkpoint(path).tensors.items()
        if not any(part in name for part in _SPARE)
    }
    network = BiSeNet()
    known = {name: tensor.shape for name, tensor in network.state_dict().items() if _SPARE[0] not in name}
    missing = [name for name in known if name not in state]
    surplus = [name for name in state if name not in known]
    other = [name for name in known if name in state and state[name].shape != known[name]]
    if missing or surplus or other:
        raise ValueError(
            f"parser: {path} holds other weights than BiSeNet's for 19 classes: {len(missing)} tensors are missing, "
            f"{len(surplus)} are of something else, {len(other)} have another shape"
            f" ({', '.join([*missing, *surplus, *other][:2])})."
        )
    network.load_state_dict(state, strict=False)
    return FaceParser(network.to(device).eval().requires_grad_(False), device=device)


def _onnx(path: Path) -> Callable[[Tensor], Tensor]:
    onnxruntime = needed("onnxruntime", who="parser: an ONNX file")
    try:
        session: Any = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own types, by the kind of damage
        raise ValueError(f"parser: {path} is no network that onnxruntime can run: {error}") from error
    name = session.get_inputs()[0].name

    def run(image: Tensor) -> Tensor:
        scores = np.asarray(session.run(None, {name: image.cpu().numpy()})[0])
        if scores.shape != (1, 19, _SIDE, _SIDE):
            raise ValueError(f"parser: {path} gives {scores.shape}, expected scores (1, 19, {_SIDE}, {_SIDE}).")
        return torch.from_numpy(scores)

    return run


def _blurred(image: Float[Tensor, "1 1 H W"], deviation: float) -> Float[Tensor, "1 1 H W"]:
    reach = max(1, round(3 * deviation))
    line = torch.arange(-reach, reach + 1, device=image.device) / max(deviation, 1e-3)
    kernel = torch.exp(-0.5 * line.square())
    kernel = kernel / kernel.sum()
    padded = F.pad(image, (reach, reach, reach, reach), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel[None, None, :, None]), kernel[None, None, None, :])

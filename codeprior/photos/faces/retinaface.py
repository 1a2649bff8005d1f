"""RetinaFace, the detector behind the crops of published face models, in plain torch on facexlib's weight files."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from codeprior.extras import needed
from codeprior.photos.faces._boxes import distinct
from codeprior.photos.faces._retinaface import RetinaFaceNetwork
from codeprior.photos.faces.detect import Face

_MEAN = (104.0, 117.0, 123.0)  # blue, green, red; 8-bit levels
_STEPS, _SIDES = (8, 16, 32), ((16, 32), (64, 128), (256, 512))  # pixels
_VARIANCES = (0.1, 0.2)


class RetinaFace:
    """Finds faces with RetinaFace.

    Args:
        network: Filled with weights.
        shorter: Shorter side that a photograph is reduced to before it is searched, pixels; 640 is facexlib's.
        score: Least score of a box.
        overlap: Above which two boxes are one face.
        device: Where the network runs.

    Source:
        xinntao/facexlib: threshold 0.97 and sides of 640 pixels for restoration; here the caller sets the least score.
    """

    def __init__(
        self,
        network: RetinaFaceNetwork,
        *,
        shorter: int = 640,
        score: float = 0.5,
        overlap: float = 0.4,
        device: str | torch.device = "cpu",
    ):
        self.network = network.to(device).eval().requires_grad_(False)
        self.shorter, self.score, self.overlap = shorter, score, overlap
        self.device = torch.device(device)
        # a square tile of this side is not reduced; the narrowest face is the smallest anchor
        self.longest, self.smallest = shorter, _SIDES[0][0]

    @torch.no_grad()
    def __call__(self, photo: UInt8[np.ndarray, "H W 3"]) -> list[Face]:
        """Finds the faces of a photograph.

        Args:
            photo: RGB, 8-bit levels.

        Returns:
            Faces in the photograph's pixels, best score first; none is an empty list.
        """
        scale = max(1.0, min(photo.shape[:2]) / self.shorter)
        height, width = (max(1, int(side / scale)) for side in photo.shape[:2])
        pixels = np.ascontiguousarray(photo[..., ::-1])
        if scale > 1:
            cv2 = needed("cv2", who="detector 'retinaface'")
            pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
        image = rearrange(torch.from_numpy(pixels).to(self.device).float(), "h w c -> 1 c h w")
        raw = self.network(image - image.new_tensor(_MEAN)[:, None, None])
        places = anchors(height, width)
        good = (raw.scores[0] > self.score).cpu()
        places, scores = places[good], raw.scores[0].cpu()[good]
        boxes = _boxes(raw.boxes[0].cpu()[good], places)
        points = _points(raw.points[0].cpu()[good], places)
        found = torch.cat([boxes, scores[:, None]], 1).double().numpy()
        return [
            Face(found[i, :4] * scale, points[i].double().numpy() * scale, float(found[i, 4]))
            for i in distinct(found, self.overlap)
        ]


def anchors(height: int, width: int) -> Float[Tensor, "n 4"]:
    """Gives the anchors of an image: centre x, centre y, width, height, pixels, in the order of the network's answers.

    Args:
        height: Rows, pixels.
        width: Columns, pixels.
    """
    parts = []
    for step, sides in zip(_STEPS, _SIDES, strict=True):
        rows = (torch.arange(math.ceil(height / step)) + 0.5) * step
        columns = (torch.arange(math.ceil(width / step)) + 0.5) * step
        y, x, side = torch.meshgrid(rows, columns, torch.tensor(sides, dtype=torch.float32), indexing="ij")
        parts.append(rearrange(torch.stack([x, y, side, side], -1), "h w a n -> (h w a) n"))
    return torch.cat(parts)


def load(weights: str | Path | None = None, *, device: str = "cpu") -> RetinaFace:
    """Gives the detector with weights from a file.

    Args:
        weights: facexlib's `detection_Resnet50_Final.pth` or `detection_mobilenet0.25_Final.pth`, or the same tensors
            in a `torch.save` archive or safetensors.
        device: Where it runs.

    Raises:
        ValueError: No file is given, or it holds other weights.
        FileNotFoundError: The file is not there.
    """
    if weights is None:
        raise ValueError(
            "detector 'retinaface' needs its weight file (detection_Resnet50_Final.pth or "
            "detection_mobilenet0.25_Final.pth); codeprior download fetches one."
        )
    state = _state(Path(weights))
    network = RetinaFaceNetwork("resnet50" if "body.conv1.weight" in state else "mobilenet")
    counters = {name for name in network.state_dict() if name.endswith("num_batches_tracked")}
    missing, surplus = network.load_state_dict(
        {name: value for name, value in state.items() if not name.startswith("body.fc.")}, strict=False
    )
    missing = [name for name in missing if name not in counters]
    if missing or surplus:
        raise ValueError(
            f"detector 'retinaface': {weights} holds other weights: {len(missing)} tensors are missing, such as "
            f"{', '.join(missing[:2]) or 'none'}; {len(surplus)} are of something else."
        )
    return RetinaFace(network, device=device)


def _state(path: Path) -> Mapping[str, Tensor]:
    from codeprior.checkpoints import read_checkpoint

    return read_checkpoint(path).tensors


def _boxes(offsets: Float[Tensor, "n 4"], places: Float[Tensor, "n 4"]) -> Float[Tensor, "n 4"]:
    middle = places[:, :2] + offsets[:, :2] * _VARIANCES[0] * places[:, 2:]
    sides = places[:, 2:] * (offsets[:, 2:] * _VARIANCES[1]).exp()
    return torch.cat([middle - sides / 2, middle + sides / 2], 1)


def _points(offsets: Float[Tensor, "n 10"], places: Float[Tensor, "n 4"]) -> Float[Tensor, "n 5 2"]:
    pairs = rearrange(offsets, "n (p c) -> n p c", c=2)
    return places[:, None, :2] + pairs * _VARIANCES[0] * places[:, None, 2:]

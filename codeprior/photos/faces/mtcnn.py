"""MTCNN, the default face detector: two megabytes of weights in the library itself, no download, no further package.

The cascade of Zhang et al. 2016, "Joint face detection and alignment using multi-task cascaded convolutional networks":
P-Net proposes on an image pyramid, R-Net rejects, O-Net places five points.
"""

import copy
import math
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from codeprior.kernels import crop_resize
from codeprior.photos.faces._boxes import distinct
from codeprior.photos.faces._cascade import face_features, networks
from codeprior.photos.faces.detect import Face

__all__ = ["MTCNN", "face_features", "load"]

_CELL = 12  # side of P-Net's window, pixels
_STRIDE = 2
_STEP = math.sqrt(0.5)  # between the levels of the pyramid
_OVERLAPS = (0.5, 0.7, 0.7, 0.7)  # of boxes that count as one: within a level, after P-, R- and O-Net


class MTCNN:
    """Finds faces with the three-stage cascade.

    Args:
        smallest: Smallest face, pixels of the picture that is searched.
        longest: Longer side that a photograph is reduced to before it is searched, pixels.
        thresholds: Scores that a box needs after P-, R- and O-Net.
        device: Where the networks run.

    Source:
        Zhang et al. 2016; box conventions and weights: mtcnn-runtime 1.0.0, after TropComplique/mtcnn-pytorch.
    """

    def __init__(
        self,
        *,
        smallest: float = 24.0,
        longest: int = 1280,
        thresholds: tuple[float, float, float] = (0.6, 0.7, 0.8),
        device: str | torch.device = "cpu",
    ):
        self._networks = networks(device)
        self.smallest, self.longest, self.thresholds = smallest, longest, thresholds
        self.device = torch.device(device)
        self._narrowest = 0.0

    def at_least(self, width: float) -> "MTCNN":
        """Gives the same detector for faces that are at least this wide; it searches fewer and smaller images.

        Wider faces are found in the same windows as before; narrower ones only where a wider window shows them.

        Args:
            width: Pixels of the photograph.
        """
        other = copy.copy(self)
        other._narrowest = width
        return other

    @torch.no_grad()
    def __call__(self, photo: UInt8[np.ndarray, "H W 3"]) -> list[Face]:
        """Finds the faces of a photograph.

        Args:
            photo: RGB, 8-bit levels.

        Returns:
            Faces in the photograph's pixels, best score first; none is an empty list.
        """
        image = rearrange(torch.from_numpy(np.ascontiguousarray(photo)), "h w c -> c h w").to(self.device)
        scale = min(1.0, self.longest / max(photo.shape[:2]))
        if scale < 1:
            rows, columns = (max(1, round(side * scale)) for side in photo.shape[:2])
            image = _resized(image, _whole(image), (rows, columns))[0]
        boxes = self._propose(image, self._narrowest * scale)
        boxes = self._refine(image, boxes)
        boxes, points = self._place(image, boxes)
        ratio = np.array([photo.shape[1] / image.shape[2], photo.shape[0] / image.shape[1]])
        both = np.concatenate([ratio, ratio])
        return [
            Face((box[:4] + 0.5) * both - 0.5, (place + 0.5) * ratio - 0.5, float(box[4]))
            for box, place in zip(boxes, points, strict=True)
        ]

    def _propose(self, image: Tensor, narrowest: float) -> Float[np.ndarray, "n 5"]:
        found: list[np.ndarray] = [np.zeros((0, 9))]
        scale, shorter = _CELL / self.smallest, min(image.shape[1:])
        # of each face the nearest window is looked through, at most half a step of the pyramid away
        while _CELL / scale < narrowest * math.sqrt(_STEP):
            scale *= _STEP
        while shorter * scale > _CELL:
            rows, columns = (math.ceil(side * scale) for side in image.shape[1:])
            level = _normed(_resized(image, _whole(image), (rows, columns), antialias=False))
            places, scores, offsets = (
                answer.cpu().numpy() for answer in self._networks.propose(level, self.thresholds[0])
            )
            corner = places[:, ::-1] * _STRIDE + 1.0
            boxes = np.concatenate([corner / scale, (corner + _CELL) / scale], 1)
            level_found = np.concatenate([boxes, scores[:, None], offsets], axis=1)
            found.append(level_found[distinct(level_found, _OVERLAPS[0])])
            scale *= _STEP
        boxes = np.concatenate(found)
        boxes = boxes[distinct(boxes, _OVERLAPS[1])]
        return _moved(boxes[:, :5], boxes[:, 5:])

    def _refine(self, image: Tensor, boxes: Float[np.ndarray, "n 5"]) -> Float[np.ndarray, "m 5"]:
        boxes = _square(boxes)
        if not len(boxes):
            return boxes
        _, offsets, scores = self._networks.refine(_normed(_resized(image, boxes, 24)))
        offsets, boxes[:, 4] = offsets.cpu().numpy(), scores.cpu().numpy()
        kept = np.nonzero(boxes[:, 4] > self.thresholds[1])[0]
        kept = kept[distinct(boxes[kept], _OVERLAPS[2])]
        return _moved(boxes[kept], offsets[kept])

    def _place(
        self, image: Tensor, boxes: Float[np.ndarray, "n 5"]
    ) -> tuple[Float[np.ndarray, "m 5"], Float[np.ndarray, "m 5 2"]]:
        boxes = _square(boxes)
        if not len(boxes):
            return boxes, np.zeros((0, 5, 2))
        places, offsets, scores = self._networks.place(_normed(_resized(image, boxes, 48)))
        places, offsets, boxes[:, 4] = places.cpu().numpy(), offsets.cpu().numpy(), scores.cpu().numpy()
        sides = boxes[:, None, 2:4] - boxes[:, None, :2] + 1
        points = boxes[:, None, :2] + sides * rearrange(places, "n (c p) -> n p c", c=2)
        kept = np.nonzero(boxes[:, 4] > self.thresholds[2])[0]
        boxes, points = _moved(boxes[kept], offsets[kept]), points[kept]
        kept = distinct(boxes, _OVERLAPS[3], of_smaller=True)
        return boxes[kept], points[kept]


def load(weights: str | Path | None = None, *, device: str = "cpu") -> MTCNN:
    """Gives the detector with the weights of this library.

    Args:
        weights: None: there is one set of weights, and it lies in the library.
        device: Where it runs.

    Raises:
        ValueError: A weight file is given.
    """
    if weights is not None:
        raise ValueError("detector 'mtcnn' carries its weights; leave out the weight file, or choose retinaface.")
    return MTCNN(device=device)


def _resized(
    image: Tensor, boxes: Float[np.ndarray, "n c"], size: int | tuple[int, int], *, antialias: bool = True
) -> Float[Tensor, "n 3 h w"]:
    places = torch.from_numpy(boxes[:, :4].astype(np.int64)).to(image.device)
    return crop_resize(image, places, size, antialias=antialias)


def _whole(image: Tensor) -> Float[np.ndarray, "1 4"]:
    return np.array([[0.0, 0.0, image.shape[2] - 1, image.shape[1] - 1]])


def _normed(levels: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """Gives 8-bit levels as the networks take them; what lies outside a photograph is black, as where they learned."""
    return levels.sub_(127.5).div_(128)


def _moved(boxes: Float[np.ndarray, "n 5"], offsets: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n 5"]:
    moved = boxes.copy()
    sides = boxes[:, 2:4] - boxes[:, :2] + 1
    moved[:, :4] += np.concatenate([sides, sides], 1) * offsets
    return moved


def _square(boxes: Float[np.ndarray, "n 5"]) -> Float[np.ndarray, "n 5"]:
    square = boxes.copy()
    sides = boxes[:, 2:4] - boxes[:, :2] + 1
    longest = sides.max(1, keepdims=True)
    square[:, :2] = np.round(boxes[:, :2] + sides / 2 - longest / 2)
    square[:, 2:4] = np.round(boxes[:, :2] + sides / 2 + longest / 2 - 1)
    return square

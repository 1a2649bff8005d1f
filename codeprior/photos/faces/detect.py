"""What a face detector gives, which ones there are, and which of the faces found are restored."""

import math
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float, UInt8

from codeprior.families import Published

# name -> room that defines `load(weights, device=...)`; each imports its own packages on first use
DETECTORS = {name: f"codeprior.photos.faces.{name}" for name in ("mtcnn", "retinaface", "yunet", "uniface")}

_FACEXLIB = "https://github.com/xinntao/facexlib/releases/download/v0.1.0"
PUBLISHED = (
    Published(
        "retinaface",
        f"{_FACEXLIB}/detection_Resnet50_Final.pth",
        "6d1de9c2944f2ccddca5f5e010ea5ae64a39845a86311af6fdf30841b0a5a16d",
        licence="MIT",
        text="RetinaFace ResNet-50, the detector of published face models; 104 MiB",
    ),
    Published(
        "retinaface-mobilenet",
        f"{_FACEXLIB}/detection_mobilenet0.25_Final.pth",
        "2979b33ffafda5d74b6948cd7a5b9a7a62f62b949cef24e95fd15d2883a65220",
        licence="MIT",
        text="RetinaFace MobileNet 0.25; 1.7 MiB",
    ),
    Published(
        "yunet",
        "https://media.githubusercontent.com/media/opencv/opencv_zoo/main/models/face_detection_yunet/"
        "face_detection_yunet_2023mar.onnx",
        "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
        licence="MIT",
        text="YuNet for OpenCV; 0.2 MiB",
    ),
)
"""Weights of detectors that others publish; `codeprior download` fetches them by name."""


class Face(NamedTuple):
    """A face in a photograph.

    Attributes:
        box: Left, top, right, bottom, pixels.
        points: Left eye, right eye, nose, left and right corner of the mouth as (x, y), pixels; left as seen.
        score: The detector's confidence, [0, 1].
    """

    box: Float[np.ndarray, "4"]
    points: Float[np.ndarray, "5 2"]
    score: float


class Detector(Protocol):
    """Anything that finds faces: a photograph of 8-bit RGB levels in, faces out, best score first."""

    def __call__(self, photo: UInt8[np.ndarray, "H W 3"]) -> list[Face]: ...


def detector(name: str = "mtcnn", *, weights: str | Path | None = None, device: str = "cpu") -> Detector:
    """Gives a face detector by name.

    Args:
        name: `mtcnn`, whose weights come with this library; `retinaface`, `yunet` or `uniface`, which need a weight
            file.
        weights: The weight file; nothing is ever downloaded here.
        device: Where a torch detector runs.

    Raises:
        ValueError: No detector has that name, or it needs a weight file.
        ImportError: The package that it needs is not installed; the message says which.
    """
    if name not in DETECTORS:
        raise ValueError(f"detector: no detector is named {name!r}; choose one of {', '.join(DETECTORS)}.")
    return import_module(DETECTORS[name]).load(weights, device=device)


class NoFaceError(ValueError):
    """A photograph has no face that can be used; the text says why, and what to change."""


def usable(faces: Sequence[Face], *, score: float, smallest: float) -> list[int]:
    """Gives the numbers of the faces that are certain and large enough.

    Args:
        faces: Faces as the detector gave them.
        score: Least score.
        smallest: Least distance between the eyes, pixels.

    Returns:
        At least one number, in ascending order.

    Raises:
        NoFaceError: There is no face, or none that is certain and large enough.
    """
    if not faces:
        raise NoFaceError(
            "no face was found; mark it by hand (landmarks), or give a picture that is one face as such (aligned)"
        )
    apart = [float(np.linalg.norm(face.points[1] - face.points[0])) for face in faces]
    certain = [face.score >= score for face in faces]
    good = [number for number, distance in enumerate(apart) if certain[number] and distance >= smallest]
    if good:
        return good
    reasons = []
    if doubtful := [face.score for face, sure in zip(faces, certain, strict=True) if not sure]:
        # rounded down: a score of 0.899 must not read as the 0.9 that is asked for
        best = math.floor(100 * max(doubtful)) / 100
        reasons.append(f"{len(doubtful)} below the least score {score:g} (best {best:.2f}; a lower score takes it)")
    if small := [distance for distance, sure in zip(apart, certain, strict=True) if sure]:
        widest = math.floor(10 * max(small)) / 10
        reasons.append(
            f"{len(small)} with eyes less than {smallest:g} pixels apart (at most {widest:.1f}; a lower smallest takes "
            "it)"
        )
    raise NoFaceError(f"no face is certain and large enough, of {len(faces)} found: {', '.join(reasons)}")


def choose(faces: Sequence[Face], which: str, *, width: int, height: int) -> list[int]:
    """Gives the numbers of the faces to restore.

    Args:
        faces: Faces as the detector gave them.
        which: `all`, `largest`, `centre` (nearest to the middle of the photograph), or a number counted from 0, left to
            right.
        width: Columns of the photograph, pixels.
        height: Rows of the photograph, pixels.

    Raises:
        ValueError: `which` is none of these, or there is no face of that number.
    """
    if not faces:
        return []
    if which == "all":
        return list(range(len(faces)))
    boxes = np.array([face.box for face in faces])
    if which == "largest":
        return [int(np.argmax((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])))]
    if which == "centre":
        middle = np.array([(width - 1) / 2, (height - 1) / 2])
        return [int(np.argmin(np.linalg.norm((boxes[:, :2] + boxes[:, 2:]) / 2 - middle, axis=1)))]
    if not which.isdecimal():
        raise ValueError(f"choose: expected all, largest, centre or a number, got {which!r}.")
    if int(which) >= len(faces):
        raise ValueError(
            f"there is no face {which}: {len(faces)} can be used, and they are counted from 0, left to right."
        )
    return [int(np.argsort(boxes[:, 0] + boxes[:, 2], kind="stable")[int(which)])]


def from_landmarks(entries: object) -> list[Face]:
    """Gives faces whose points somebody marked by hand.

    Args:
        entries: A list with one entry per face: five points `[[x, y], ...]`, or `{"points": ..., "box": ...}`; `box`
            alone is not enough to align a face.

    Returns:
        Faces with score 1; where no box is given, the one that the points suggest.

    Raises:
        ValueError: An entry has another form.
    """
    if not isinstance(entries, list):
        raise ValueError(f"from_landmarks: expected a list of faces, got {type(entries).__name__}.")
    faces = []
    for entry in entries:
        given = entry if isinstance(entry, Mapping) else {"points": entry}
        try:
            points = np.array(given["points"], np.float64)
            box = np.array(given["box"], np.float64) if "box" in given else box_around(points)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"from_landmarks: expected five points [x, y] a face, got {str(entry)[:80]}.") from error
        if points.shape != (5, 2) or box.shape != (4,) or not (np.isfinite(points).all() and np.isfinite(box).all()):
            raise ValueError(f"from_landmarks: expected five points [x, y] a face, got {str(entry)[:80]}.")
        faces.append(Face(box, points, 1.0))
    return faces


def box_around(points: Float[np.ndarray, "5 2"]) -> Float[np.ndarray, "4"]:
    """Gives the box that a face with these points fills, about twice as wide as its eyes are apart.

    Args:
        points: Left eye, right eye, nose, left and right corner of the mouth as (x, y), pixels.
    """
    low, high = points.min(0), points.max(0)
    reach = 0.5 * max(float((high - low).max()), 1.0)
    return np.concatenate([low - reach, high + reach])

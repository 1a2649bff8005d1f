"""Faces that a detector misses when it is simply given the photograph: small ones in large pictures, and turned ones.

Detectors reduce a photograph to a fixed size before they look. Where that would lose faces that are asked for, the
photograph is also cut into overlapping tiles that are not reduced as much; where no face stands upright, the photograph
is turned by 90°, 270° and 180°.
"""

import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import UInt8

from codeprior.photos.faces._boxes import distinct
from codeprior.photos.faces.detect import Detector, Face

_WIDTH = 2.2  # width of a face, distances between its eyes; the boxes of MTCNN on frontal faces
_OVERLAP = 0.7  # of the smaller box, above which two boxes are one face; as in MTCNN's last stage
_DOUBT = 0.2  # 0.9 becomes 0.98: 12 megapixels of gravel then give no face, and small faces have 0.99
_EDGE = 3  # pixels: a box that ends so close to a cut is part of a face that another tile holds whole


def search(
    detector: Detector, photo: UInt8[np.ndarray, "H W 3"], *, smallest: float = 16.0, score: float = 0.9
) -> list[Face]:
    """Finds the faces of a photograph, small and turned ones too.

    Args:
        detector: With attributes `longest`, the longer side that it reduces a photograph to, pixels, and `smallest`,
            the narrowest face that it then finds, pixels, it is also given tiles; without them it is asked once.
        photo: RGB, 8-bit levels.
        smallest: Least distance between the eyes that is looked for, pixels of the photograph. Below
            `detector.smallest / 2.2`, 11 pixels for MTCNN, there is nothing to see for the detector.
        score: Least score of a face that counts as found. What only a tile shows needs 0.98 where this is 0.9, and
            where no upright face reaches that, the photograph is turned. Turned ones are searched whole, without tiles.

    Returns:
        Faces in the photograph's pixels, best score first; none is an empty list.
    """
    if at_least := getattr(detector, "at_least", None):
        detector = at_least(_WIDTH * smallest)
    faces = list(detector(photo))
    # tiles hold many more windows, and each may look like a face by chance: only a fifth of the doubt is allowed
    sure = 1 - _DOUBT * (1 - score)
    for tile in _tiles(detector, photo.shape[:2], smallest):
        faces += [face for face in _inside(detector(photo[tile]), tile, photo.shape[:2]) if face.score >= sure]
    upright = _best(faces)
    if upright < sure:
        turned = [_turned_back(detector(np.rot90(photo, turns)), turns, photo.shape[:2]) for turns in (1, 3, 2)]
        best = max(turned, key=_best)
        # a turned face is sometimes taken for an upright one, with less confidence and false points
        faces = best if _best(best) >= max(score, upright) else faces
    if len(faces) < 2:
        return faces
    table = np.array([[*face.box, face.score] for face in faces])
    return [faces[index] for index in distinct(table, _OVERLAP, of_smaller=True)]


def _best(faces: list[Face]) -> float:
    return max((face.score for face in faces), default=0.0)


def _tiles(detector: Detector, shape: tuple[int, int], smallest: float) -> Iterator[tuple[slice, slice]]:
    longest, narrowest = getattr(detector, "longest", None), getattr(detector, "smallest", None)
    if longest is None or narrowest is None:
        return
    # a tile of this side is reduced just so far that the smallest face asked for is still found
    side = math.ceil(longest * max(1.0, _WIDTH * smallest / narrowest))
    if max(shape) <= side:
        return
    # what the whole photograph shows wide enough may be cut by tiles; anything narrower is whole in one of them
    overlap = min(side // 2, math.ceil(1.5 * narrowest * max(shape) / longest) + 2 * _EDGE)
    for top in _starts(shape[0], side, overlap):
        for left in _starts(shape[1], side, overlap):
            yield slice(top, min(top + side, shape[0])), slice(left, min(left + side, shape[1]))


def _starts(length: int, side: int, overlap: int) -> list[int]:
    if length <= side:
        return [0]
    count = 1 + math.ceil((length - side) / (side - overlap))
    return [round(index * (length - side) / (count - 1)) for index in range(count)]


def _inside(faces: list[Face], tile: tuple[slice, slice], shape: tuple[int, int]) -> list[Face]:
    rows, columns = tile
    corner = np.array([columns.start, rows.start], np.float64)
    kept = []
    for face in faces:
        box = face.box + np.concatenate([corner, corner])
        cut = (
            (columns.start > 0 and box[0] < columns.start + _EDGE)
            or (rows.start > 0 and box[1] < rows.start + _EDGE)
            or (columns.stop < shape[1] and box[2] > columns.stop - 1 - _EDGE)
            or (rows.stop < shape[0] and box[3] > rows.stop - 1 - _EDGE)
        )
        if not cut:
            kept.append(Face(box, face.points + corner, face.score))
    return kept


def _turned_back(faces: list[Face], turns: int, shape: tuple[int, int]) -> list[Face]:
    """Gives faces of `np.rot90(photo, turns)` in the pixels of the photograph; each keeps its own left and right."""

    def back(points: np.ndarray) -> np.ndarray:
        x, y = points[..., 0], points[..., 1]
        height, width = shape
        places = {1: (width - 1 - y, x), 2: (width - 1 - x, height - 1 - y), 3: (y, height - 1 - x)}
        return np.stack(places[turns], -1)

    found = []
    for face in faces:
        corners = back(np.array([face.box[:2], face.box[2:]]))
        found.append(Face(np.concatenate([corners.min(0), corners.max(0)]), back(face.points), face.score))
    return found

"""How a face has moved between two frames, measured on its pixels, to a fraction of a pixel.

A detector's points differ from frame to frame by a pixel or two even where nothing moves. The shift, turn and scale
that bring one frame's face onto the next's are found by Gauss–Newton steps (inverse compositional; Baker and Matthews
2004).
"""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch.nn import functional as F

from codeprior.photos.faces import alignment, resample, transform

_SIDE = 64  # of the aligned face that is compared, pixels
_STEPS, _ENOUGH = 12, 0.01  # at most this many, until the corners of the aligned face move by fewer pixels than this
_UNLIKE = 14.0  # 8-bit levels of mean difference above which it is not the same face


def look(pixels: UInt8[np.ndarray, "H W 3"], points: Float[np.ndarray, "5 2"]) -> Float[np.ndarray, "s s"]:
    """Gives what a face is recognised by in the next frame: its aligned brightness, a little blurred, 8-bit levels.

    Args:
        pixels: RGB, 8-bit levels.
        points: Of the face, pixels.
    """
    return _sampled(pixels, alignment(points, size=_SIDE))


def moved(
    known: Float[np.ndarray, "s s"],
    pixels: UInt8[np.ndarray, "H W 3"],
    points: Float[np.ndarray, "5 2"],
    start: Float[np.ndarray, "5 2"],
) -> Float[np.ndarray, "5 2"] | None:
    """Gives where the points of the last frame are in this one; None where the face does not look as it did.

    Args:
        known: What `look` gave for the last frame.
        pixels: This frame.
        points: Of the last frame.
        start: About where they are now.
    """
    matrix, down, across = alignment(points, size=_SIDE), *np.gradient(known)
    place = np.arange(_SIDE) - (_SIDE - 1) / 2
    x, y = np.meshgrid(place, place)
    weight = np.clip(1.2 - np.hypot(x, y) / (_SIDE / 2), 0, 1)  # the middle is face, the corners are not
    slopes = np.stack([across * x + down * y, down * x - across * y, across, down], -1).reshape(-1, 4)
    weighted = slopes * weight.reshape(-1, 1)
    normal = weighted.T @ slopes + 1e-3 * np.eye(4)
    step = _centred(alignment(start, size=_SIDE), matrix)
    for _ in range(_STEPS):
        off = _sampled(pixels, _both(matrix, step)) - known
        off -= (weight * off).sum() / weight.sum()  # light may change
        scale, turn, *shift = np.linalg.solve(normal, weighted.T @ off.reshape(-1))
        step = step @ np.linalg.inv(np.array([[1 + scale, -turn, shift[0]], [turn, 1 + scale, shift[1]], [0, 0, 1]]))
        if not 0.5 < step[0, 0] ** 2 + step[1, 0] ** 2 < 2:
            return None
        if max(abs(scale) * _SIDE, abs(turn) * _SIDE, *map(abs, shift)) < _ENOUGH:
            break
    off = _sampled(pixels, _both(matrix, step)) - known
    off -= (weight * off).sum() / weight.sum()
    if (weight * np.abs(off)).sum() / weight.sum() > _UNLIKE:
        return None
    back = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    return transform(transform(points, back), _both(matrix, step))


def _sampled(pixels: np.ndarray, matrix: Float[np.ndarray, "2 3"]) -> Float[np.ndarray, "s s"]:
    planes = torch.from_numpy(pixels).permute(2, 0, 1)
    part = resample(planes, matrix, height=_SIDE, width=_SIDE, padding="border")
    brightness = part.mean(0)[None, None] * 255
    return F.avg_pool2d(F.pad(brightness, (1, 1, 1, 1), mode="replicate"), 3, 1)[0, 0].double().numpy()


def _both(matrix: Float[np.ndarray, "2 3"], step: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "2 3"]:
    """Gives the map of a crop whose own pixels are moved about its middle first."""
    middle = np.array([[1, 0, (_SIDE - 1) / 2], [0, 1, (_SIDE - 1) / 2], [0, 0, 1]])
    return matrix @ middle @ step @ np.linalg.inv(middle)


def _centred(now: Float[np.ndarray, "2 3"], before: Float[np.ndarray, "2 3"]) -> Float[np.ndarray, "3 3"]:
    middle = np.array([[1, 0, (_SIDE - 1) / 2], [0, 1, (_SIDE - 1) / 2], [0, 0, 1]])
    whole = [np.vstack([part, [0, 0, 1]]) for part in (before, now)]
    return np.linalg.inv(middle) @ np.linalg.inv(whole[0]) @ whole[1] @ middle

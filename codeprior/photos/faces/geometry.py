"""Points, similarities and resampling, with pixel centres at whole numbers and half-pixel scaling throughout.

Aligned faces follow the FFHQ five-point template that published face models share (facexlib, 512 pixels). Scaling it to
another size moves pixel *edges*, not centres: `(p + ½) · size / 512 − ½`. Resampling is antialiased when it shrinks.
"""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

# left eye, right eye, nose tip, left and right corner of the mouth, left as seen; facexlib:face_restoration_helper
_TEMPLATE = np.array(
    [
        (192.98138, 239.94708),
        (318.90277, 240.1936),
        (256.63416, 314.01935),
        (201.26117, 371.41043),
        (313.08905, 371.15118),
    ]
)
_ROWS = 2**20  # sample positions handled at once, which bounds memory for any crop


def template(size: int) -> Float[np.ndarray, "5 2"]:
    """Gives the five FFHQ template points of an aligned face.

    Args:
        size: Side of the aligned image, pixels.

    Returns:
        Left eye, right eye, nose, left and right corner of the mouth as (x, y), pixels.

    Source:
        facexlib: utils/face_restoration_helper.py (512 pixels, zoomed as released models expect).
    """
    return (_TEMPLATE + 0.5) * size / 512 - 0.5


def at_side(matrix: Float[np.ndarray, "2 3"], side: int, now: int) -> Float[np.ndarray, "2 3"]:
    """Gives the matrix of the same crop at another side: it scales pixel edges, not centres.

    Args:
        matrix: Takes (x, y) of a crop to (x, y) of the photograph.
        side: Side of that crop, pixels.
        now: The other side, pixels.
    """
    step = side / now
    return matrix @ np.array([[step, 0, step / 2 - 0.5], [0, step, step / 2 - 0.5], [0, 0, 1]])


def similarity(source: Float[np.ndarray, "n 2"], target: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "2 3"]:
    """Gives the rotation, scale and shift that bring points closest to others in the least-squares sense.

    Args:
        source: Points (x, y), at least two different ones.
        target: Where they should go.

    Returns:
        Matrix `[A | t]` with `target ≈ A · source + t`; never a reflection.

    Raises:
        ValueError: The shapes differ, or the points are not finite or all the same.

    Source:
        Umeyama 1991, "Least-squares estimation of transformation parameters between two point patterns", eq. 34 to 43.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 2:
        raise ValueError(f"similarity: expected two lists of n points (x, y), got {source.shape} and {target.shape}.")
    middle, goal = source.mean(0), target.mean(0)
    spread = ((source - middle) ** 2).sum(1).mean()
    if not (np.isfinite(source).all() and np.isfinite(target).all()) or spread < 1e-12:
        raise ValueError("similarity: the points are not finite or all the same; give at least two different points.")
    u, values, v = np.linalg.svd((target - goal).T @ (source - middle) / len(source))
    sign = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(v)) or 1.0])
    linear = (values * sign).sum() / spread * (u * sign) @ v
    return np.concatenate([linear, (goal - linear @ middle)[:, None]], axis=1)


def invert(matrix: Float[np.ndarray, "2 3"]) -> Float[np.ndarray, "2 3"]:
    """Gives the matrix that undoes an affine one.

    Args:
        matrix: `[A | t]` with an invertible `A`.
    """
    linear = np.linalg.inv(matrix[:, :2])
    return np.concatenate([linear, -linear @ matrix[:, 2:]], axis=1)


def transform(points: Float[np.ndarray, "n 2"], matrix: Float[np.ndarray, "2 3"]) -> Float[np.ndarray, "n 2"]:
    """Gives `A · p + t` for each point.

    Args:
        points: (x, y), pixels.
        matrix: `[A | t]`.
    """
    return np.asarray(points, np.float64) @ matrix[:, :2].T + matrix[:, 2]


def resample(
    image: Tensor, matrix: Float[np.ndarray, "2 3"], *, height: int, width: int, padding: str = "reflection"
) -> Float[Tensor, "c height width"]:
    """Samples an image where an affine map says, cubic when it enlarges and antialiased when it shrinks.

    Shrinking first averages whole blocks of pixels, then averages two by two samples per output pixel.

    Args:
        image: `c H W`; bytes are taken as 8-bit levels and come out as unit.
        matrix: Takes the (x, y) of an output pixel to (x, y) in the image.
        height: Rows of the output, pixels.
        width: Columns of the output, pixels.
        padding: What lies outside the image: `reflection`, `border` or `zeros`.

    Returns:
        The samples, of the image's own range.

    Raises:
        ValueError: The map collapses the plane.
    """
    stretch = math.sqrt(abs(np.linalg.det(matrix[:, :2])))  # image pixels for one output pixel
    if not math.isfinite(stretch) or stretch < 1e-6:
        raise ValueError("resample: the map collapses the plane; check the points that it came from.")
    image, matrix = _region(image, matrix, height, width)
    block = max(1, int(stretch))
    if block > 1:
        image = F.avg_pool2d(image[None], block, ceil_mode=True, count_include_pad=False)[0]
        matrix = np.array([[1 / block, 0, 0.5 / block - 0.5], [0, 1 / block, 0.5 / block - 0.5]]) @ np.vstack(
            [matrix, [0, 0, 1]]
        )
    if stretch <= 1 + 1e-6:  # with points found in a photograph a stretch of one is 1 ± 1e-16
        return _sample(image, matrix, height, width, padding, "bicubic")
    finer = matrix @ np.array([[0.5, 0, -0.25], [0, 0.5, -0.25], [0, 0, 1]])
    return F.avg_pool2d(_sample(image, finer, 2 * height, 2 * width, padding, "bicubic")[None], 2)[0]


def _region(
    image: Tensor, matrix: Float[np.ndarray, "2 3"], height: int, width: int
) -> tuple[Tensor, Float[np.ndarray, "2 3"]]:
    """Cuts out the part of the image that the output can see, so that the cost does not grow with the photo."""
    corners = transform(np.array([(-1, -1), (width, -1), (-1, height), (width, height)]), matrix)
    stretch = math.sqrt(abs(np.linalg.det(matrix[:, :2])))
    (left, top), (right, bottom) = corners.min(0) - 4 - 2 * stretch, corners.max(0) + 5 + 2 * stretch
    rows, columns = image.shape[-2:]
    # reflections reach back into the image as far as the output reaches out of it
    left, right = min(left, 2 * columns - right), max(right, -left)
    top, bottom = min(top, 2 * rows - bottom), max(bottom, -top)
    left, right = int(np.clip(left, 0, columns - 1)), int(np.clip(right, 1, columns))
    top, bottom = int(np.clip(top, 0, rows - 1)), int(np.clip(bottom, 1, rows))
    part = image[:, top : max(bottom, top + 1), left : max(right, left + 1)]
    part = part.float() / 255 if part.dtype == torch.uint8 else part.float()
    return part, matrix - np.array([[0, 0, left], [0, 0, top]])


def _sample(
    image: Tensor, matrix: Float[np.ndarray, "2 3"], height: int, width: int, padding: str, mode: str
) -> Float[Tensor, "c height width"]:
    rows, columns = image.shape[-2:]
    # float64 positions: float32 would be off by 1/256 pixel at the far side of a large photograph
    linear = torch.as_tensor(matrix, dtype=torch.float64)
    scale = torch.tensor([2 / columns, 2 / rows], dtype=torch.float64)
    across = torch.arange(width, dtype=torch.float64)[:, None] * linear[:, 0]  # width 2
    parts = []
    step = max(1, _ROWS // width)
    for top in range(0, height, step):
        down = torch.arange(top, min(top + step, height), dtype=torch.float64)[:, None, None] * linear[:, 1]
        grid = ((down + across + linear[:, 2] + 0.5) * scale - 1).to(image.dtype)  # rows width 2
        parts.append(F.grid_sample(image[None], grid[None], mode=mode, padding_mode=padding, align_corners=False)[0])
    return torch.cat(parts, dim=1)

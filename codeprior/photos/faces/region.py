"""Where a face lies in its photograph: the part that is cut out to look at it pixel by pixel, without resampling."""

import numpy as np
from jaxtyping import Float

from codeprior.photos.faces.geometry import similarity, template, transform

_SIZE = 512


def region(points: Float[np.ndarray, "5 2"], *, height: int, width: int) -> tuple[slice, slice]:
    """Gives the rows and columns of a photograph that an aligned crop of the face would cover, upright.

    Aligning a face resamples it, and that destroys the traces of what was done to its pixels. This part keeps them.

    Args:
        points: Left eye, right eye, nose, left and right corner of the mouth as (x, y), pixels.
        height: Rows of the photograph, pixels.
        width: Columns of the photograph, pixels.

    Returns:
        Rows and columns of a square around the face, cut off at the edges of the photograph; empty where the face lies
        outside.

    Raises:
        ValueError: The points are not finite.
    """
    matrix = similarity(template(_SIZE), points)
    side = float(np.linalg.norm(matrix[:, 0])) * _SIZE
    x, y = transform(np.array([[(_SIZE - 1) / 2, (_SIZE - 1) / 2]]), matrix)[0] + 0.5
    rows, columns = (
        slice(*(int(np.clip(round(edge), 0, most)) for edge in (middle - side / 2, middle + side / 2)))
        for middle, most in ((y, height), (x, width))
    )
    return rows, columns

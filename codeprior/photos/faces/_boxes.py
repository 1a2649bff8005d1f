"""Which of many boxes are one face."""

import numpy as np
from jaxtyping import Float


def distinct(boxes: Float[np.ndarray, "n c"], overlap: float, *, of_smaller: bool = False) -> list[int]:
    """Gives the numbers of the boxes that no better one covers (non-maximum suppression), best first.

    Args:
        boxes: Left, top, right, bottom, score, and whatever follows.
        overlap: Shared area over the area of both together, above which two boxes are one face.
        of_smaller: Compare with the area of the smaller box instead.
    """
    left, top, right, bottom, score = boxes.T[:5]
    area = (right - left + 1) * (bottom - top + 1)
    order, kept = np.argsort(-score, kind="stable"), []
    while len(order):
        best, rest = order[0], order[1:]
        kept.append(int(best))
        across = np.minimum(right[best], right[rest]) - np.maximum(left[best], left[rest]) + 1
        down = np.minimum(bottom[best], bottom[rest]) - np.maximum(top[best], top[rest]) + 1
        shared = across.clip(0) * down.clip(0)
        whole = np.minimum(area[best], area[rest]) if of_smaller else area[best] + area[rest] - shared
        order = rest[shared <= overlap * whole]
    return kept

"""Which of many boxes are one face."""

import numpy as np
from jaxtyping import Float

_BLOCK = 128  # boxes that are compared with all others at once


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
        # a block of the best at a time: each is compared with all that are left in one sweep
        block, order = order[:_BLOCK], order[_BLOCK:]
        rest = np.concatenate([block, order])
        across = np.minimum(right[block, None], right[rest]) - np.maximum(left[block, None], left[rest]) + 1
        down = np.minimum(bottom[block, None], bottom[rest]) - np.maximum(top[block, None], top[rest]) + 1
        shared = across.clip(0) * down.clip(0)
        smaller, both = np.minimum(area[block, None], area[rest]), area[block, None] + area[rest]
        covered = ~(shared <= overlap * (smaller if of_smaller else both - shared))
        alive = np.ones(len(rest), bool)
        for place in range(len(block)):
            if alive[place]:
                kept.append(int(block[place]))
                alive[place + 1 :] &= ~covered[place, place + 1 :]
        order = order[alive[len(block) :]]
    return kept

"""How much a video flickers: the change from frame to frame of what ought to stay the same."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from codeprior.photos.faces.geometry import resample


def flicker(
    frames: Float[Tensor, "t 3 H W"],
    motion: Float[np.ndarray, "t 2 3"] | None = None,
    *,
    region: Bool[Tensor, "H W"] | None = None,
) -> Float[Tensor, "t-1"]:
    """Gives the mean absolute change of pixels between neighbouring frames, after known motion is removed.

    `mean |W_t(x_t) − W_{t−1}(x_{t−1})|`: the warping error with known motion. A clip that only moves has just the error
    of resampling; noise of σ levels that is new in each frame has `2 σ / √π`.

    Args:
        frames: Unit, [0, 1], at least two.
        motion: Takes (x, y) of the first frame to the same thing in frame t, pixels; None where nothing moves.
        region: Pixels of the first frame that count, such as a face; None counts all.

    Returns:
        8-bit levels.

    Raises:
        ValueError: There are fewer than two frames, or the shapes do not fit.
    """
    if frames.ndim != 4 or len(frames) < 2:
        raise ValueError(f"flicker: expected at least two frames (t, 3, H, W), got {tuple(frames.shape)}.")
    height, width = frames.shape[2:]
    if motion is not None and motion.shape != (len(frames), 2, 3):
        raise ValueError(f"flicker: expected a matrix per frame ({len(frames)}, 2, 3), got {motion.shape}.")
    if region is not None and region.shape != (height, width):
        raise ValueError(f"flicker: expected a region ({height}, {width}), got {tuple(region.shape)}.")
    if motion is not None:
        still = [
            resample(frame, matrix, height=height, width=width, padding="border")
            for frame, matrix in zip(frames, motion, strict=True)
        ]
        frames = torch.stack(still)
    change = (frames[1:] - frames[:-1]).abs().mean(1)  # t-1 H W
    change = change.flatten(1) if region is None else change[:, region]
    return change.mean(1) * 255

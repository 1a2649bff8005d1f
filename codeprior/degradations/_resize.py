"""One image resized on the CPU, by OpenCV or by torch."""

import cv2
import numpy as np
import torch
from einops import rearrange
from torch.nn import functional as F

_CV2 = {
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
    "nearest": cv2.INTER_NEAREST,
}


def resize_pixels(image: np.ndarray, height: int, width: int, interpolation: str, rules: str) -> np.ndarray:
    """Gives `H W 3` floats at another size."""
    if image.shape[:2] == (height, width):
        return image
    if rules == "cv2":
        if height <= image.shape[0] and width <= image.shape[1]:
            return cv2.resize(image, (width, height), interpolation=_CV2[interpolation])
        # the outermost columns of an enlarged image are rounded otherwise in the third channel, so give it BGR
        flipped = np.ascontiguousarray(image[..., ::-1])
        return np.ascontiguousarray(cv2.resize(flipped, (width, height), interpolation=_CV2[interpolation])[..., ::-1])
    planes = torch.from_numpy(rearrange(image, "h w c -> 1 c h w"))
    aligned = False if interpolation in ("bilinear", "bicubic") else None
    planes = F.interpolate(planes, (height, width), mode=interpolation, align_corners=aligned)
    return np.ascontiguousarray(rearrange(planes.numpy(), "1 c h w -> h w c"))

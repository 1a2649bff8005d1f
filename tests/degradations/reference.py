"""The plain OpenCV chain, written out: the truth for the classic face presets."""

import functools

import cv2
import numpy as np
import torch

from codeprior.degradations import Params
from codeprior.degradations._draws import normal_field
from codeprior.degradations.blur import kernel_matrix


@functools.cache
def photograph(size: int = 256) -> torch.Tensor:
    """The astronaut of scikit-image, uint8, `3 size size`; whoever writes to it clones it."""
    from skimage import data

    picture = cv2.resize(data.astronaut(), (size, size), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))


def ipp_is_avx2() -> bool:
    """Says whether OpenCV runs the Intel IPP whose last bits the torch and fast modes follow."""
    return cv2.ipp.useIPP() and "AVX2" in cv2.ipp.getIppVersion()


def degraded(image: torch.Tensor, params: Params, row: int) -> torch.Tensor:
    """Blur, reduce, noise, JPEG, resize back, round: BGR float32 as BasicSR does it; uint8 `3 H W`."""
    drawn = {name: value[row].numpy() for name, value in params.values.items()}
    pixels = image.numpy().transpose(1, 2, 0)[..., ::-1].astype(np.float32) / 255
    kernel = kernel_matrix({name[14:]: value for name, value in drawn.items() if name.startswith("gaussian_blur.")})
    pixels = cv2.filter2D(np.ascontiguousarray(pixels), -1, kernel)
    height, width = (int(side) for side in drawn["resize.size"])
    pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    field = normal_field(int(drawn["gaussian_noise.key"]), height, width, 3)[..., ::-1]
    pixels = np.clip(pixels + field * np.float32(drawn["gaussian_noise.sigma"]) / np.float32(255), 0, 1)
    quality = int(drawn["jpeg.quality"])
    encoded = cv2.imencode(".jpg", pixels * 255.0, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    pixels = np.float32(cv2.imdecode(encoded, cv2.IMREAD_COLOR)) / 255
    pixels = cv2.resize(pixels, image.shape[1:][::-1], interpolation=cv2.INTER_LINEAR)
    levels = np.clip((pixels * 255.0).round(), 0, 255).astype(np.uint8)
    return torch.from_numpy(np.ascontiguousarray(levels[..., ::-1].transpose(2, 0, 1)))

"""What degradations are timed against: the OpenCV chain of the training scripts, and peers as near to it as can be."""

import functools
import importlib.util
from collections.abc import Callable

import cv2
import numpy as np
import torch

from codeprior.degradations import Params
from codeprior.degradations._draws import normal_field

Noise = Callable[[Params, int, int], np.ndarray]


def gaussian_kernel(size: int, sigma: tuple[float, float], angle: float) -> np.ndarray:
    """The kernel as BasicSR defines it: a quadratic form on a grid of whole pixels, normalised."""
    axis = np.arange(size) - size // 2
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    inverse = turn @ np.diag([1 / sigma[0] ** 2, 1 / sigma[1] ** 2]) @ turn.T
    grid = np.stack(np.meshgrid(axis, axis), -1)
    kernel = np.exp(-0.5 * np.einsum("yxi,ij,yxj->yx", grid, inverse, grid))
    return kernel / kernel.sum()


def normal_noise(params: Params, height: int, width: int) -> np.ndarray:
    """This library's field, in the chain's channel order."""
    return normal_field(int(params.values["gaussian_noise.key"]), height, width, 3)[..., ::-1]


def cv2_chain(pixels: np.ndarray, params: Params, noise: Noise) -> torch.Tensor:
    """Blur, reduce, noise, JPEG, resize back, round.

    Args:
        pixels: `H W BGR`, unit, float32.
        params: One row drawn for a classic preset.
        noise: Gives the normal field, `h w 3`.

    Returns:
        `3 H W`, RGB, uint8.
    """
    drawn = params.values
    sigma = drawn["gaussian_blur.sigma"][0].tolist()
    kernel = gaussian_kernel(int(drawn["gaussian_blur.size"]), sigma, float(drawn["gaussian_blur.angle"]))
    result = cv2.filter2D(pixels, -1, kernel)
    height, width = drawn["resize.size"][0].tolist()
    result = cv2.resize(result, (width, height), interpolation=cv2.INTER_LINEAR)
    field = noise(params, height, width)
    result = np.clip(result + field * np.float32(drawn["gaussian_noise.sigma"]) / np.float32(255), 0, 1)
    levels = np.rint(result * np.float32(255)).astype(np.uint8)
    code = cv2.imencode(".jpg", levels, [cv2.IMWRITE_JPEG_QUALITY, int(drawn["jpeg.quality"])])[1]
    result = np.float32(cv2.imdecode(code, cv2.IMREAD_COLOR)) / 255
    result = cv2.resize(result, pixels.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    result = cv2.cvtColor(result, cv2.COLOR_BGR2RGB)
    planes = torch.from_numpy(np.ascontiguousarray(result.transpose(2, 0, 1)))
    return torch.clamp((planes * 255.0).round(), 0, 255).to(torch.uint8)


@functools.cache
def peers() -> dict[str, Callable[[torch.Tensor], object]]:
    """The installed peers, each with the nearest pipeline that it can express for the ranges of `daefr`."""
    makers = {"torchvision": _torchvision, "kornia": _kornia, "albumentations": _albumentations}
    return {name: make() for name, make in makers.items() if importlib.util.find_spec(name) is not None}


def _torchvision() -> Callable[[torch.Tensor], object]:
    """Round Gaussians only; bilinear without antialias; libjpeg."""
    from torchvision.transforms import v2

    blur, jpeg = v2.GaussianBlur(41, (0.1, 15)), v2.JPEG((30, 100))

    def run(image: torch.Tensor) -> torch.Tensor:
        side = int(512 / float(torch.empty(1).uniform_(0.8, 30)))
        small = v2.functional.resize(blur(image.float() / 255), [side, side], antialias=False)
        noisy = v2.functional.gaussian_noise(small, sigma=float(torch.rand(1)) * 20 / 255)
        return v2.functional.resize(jpeg((noisy * 255).round().byte()), [512, 512], antialias=False)

    return run


def _kornia() -> Callable[[torch.Tensor], object]:
    """Round Gaussians only, one scale a batch; its own imitation of JPEG."""
    import kornia.augmentation as augmentation
    from torch.nn import functional as F

    blur = augmentation.RandomGaussianBlur((41, 41), (0.1, 15.0), p=1.0)
    noise = augmentation.RandomGaussianNoise(std=10 / 255, p=1.0)
    jpeg = augmentation.RandomJPEG((30.0, 100.0), p=1.0)

    def run(image: torch.Tensor) -> torch.Tensor:
        side = max(16, int(512 / float(torch.empty(1).uniform_(0.8, 30)))) // 16 * 16
        small = F.interpolate(blur(image[None].float() / 255), (side, side), mode="bilinear")
        return (F.interpolate(jpeg(noise(small).clamp(0, 1)), (512, 512), mode="bilinear") * 255).round().byte()

    return run


def _albumentations() -> Callable[[torch.Tensor], object]:
    """On 8-bit pixels; noise and JPEG after the way back up, as its one operation for both resizes asks for."""
    import albumentations

    chain = albumentations.Compose([
        albumentations.AdvancedBlur((39, 41), (0.1, 15), (0.1, 15), (-90, 90), (0.999, 1.001), (1, 1), p=1),
        albumentations.Downscale((1 / 30, 0.99), p=1),
        albumentations.GaussNoise((0, 20 / 255), p=1),
        albumentations.ImageCompression("jpeg", (30, 100), p=1),
    ])  # fmt: skip

    def run(image: torch.Tensor) -> object:
        return chain(image=np.ascontiguousarray(image.permute(1, 2, 0).numpy()))["image"]

    return run

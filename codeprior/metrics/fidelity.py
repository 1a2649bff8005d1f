"""PSNR and SSIM by the protocol of the papers: 8-bit RGB, no border cropped, no luma; and how far colours have moved.

Packages compute SSIM with different windows, borders and colours, so the protocol is fixed here and compared with
scikit-image in the tests.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from codeprior.metrics.accepted import unit_images
from codeprior.shapes import Image

_WINDOW, _SIGMA = 11, 1.5
_LUMINANCE, _CONTRAST = 0.01**2, 0.03**2


def psnr(restored: Image, clean: Image, *, rounding: bool = True) -> Float[Tensor, " b"]:
    """Gives the peak signal-to-noise ratio of each image, `−10 · log10(mean squared error)`.

    Args:
        restored: RGB, unit, [0, 1]; or uint8.
        clean: RGB, unit, [0, 1], or uint8; of the same shape.
        rounding: Whether both are first rounded to 8-bit levels, as files would hold them.

    Returns:
        Decibels, float64, one per image; infinite where the images are identical.

    Raises:
        TypeError: They are no tensors, or hold integers other than uint8.
        ValueError: The shapes differ or are not `b 3 H W`, or a picture holds a NaN or values outside [0, 1].

    Source: BasicSR's `calculate_psnr` with `crop_border=0, test_y_channel=False`, the protocol of DAEFR's tables.
    """
    restored, clean = _prepared("psnr", restored, clean, rounding)
    return -10 * torch.log10((restored - clean).square().mean(dim=(1, 2, 3)))


def ssim(restored: Image, clean: Image, *, rounding: bool = True) -> Float[Tensor, " b"]:
    """Gives the structural similarity of each image: Gaussian window 11×11 of σ 1.5, only where it fits whole.

    Args:
        restored: RGB, unit, [0, 1], or uint8; at least 11×11 pixels.
        clean: RGB, unit, [0, 1], or uint8; of the same shape.
        rounding: Whether both are first rounded to 8-bit levels, as files would hold them.

    Returns:
        Float64 in [-1, 1], one per image: the mean over window positions and channels.

    Raises:
        TypeError: They are no tensors, or hold integers other than uint8.
        ValueError: The shapes differ, are not `b 3 H W`, the images are smaller than the window, or a picture holds a
            NaN or values outside [0, 1].

    Source: Wang et al. 2004 with the constants 0.01² and 0.03²; the same number as BasicSR's `calculate_ssim` and as
        scikit-image with `gaussian_weights=True, use_sample_covariance=False`.
    """
    restored, clean = _prepared("ssim", restored, clean, rounding)
    if min(clean.shape[-2:]) < _WINDOW:
        raise ValueError(
            f"ssim: expected images of at least {_WINDOW}×{_WINDOW} pixels, got {clean.shape[-2]}×{clean.shape[-1]}."
        )
    first, second = _windowed(restored), _windowed(clean)
    first_variance = _windowed(restored.square()) - first.square()
    second_variance = _windowed(clean.square()) - second.square()
    covariance = _windowed(restored * clean) - first * second
    similarity = (2 * first * second + _LUMINANCE) * (2 * covariance + _CONTRAST)
    similarity = similarity / (first.square() + second.square() + _LUMINANCE)
    return (similarity / (first_variance + second_variance + _CONTRAST)).mean(dim=(1, 2, 3))


def colour_error(restored: Image, clean: Image, *, rounding: bool = True) -> Float[Tensor, " b"]:
    """Gives how far the mean colour of each image has moved, `mean over channels of |mean(restored) − mean(clean)|`.

    Args:
        restored: RGB, unit, [0, 1]; or uint8.
        clean: RGB, unit, [0, 1], or uint8; of the same shape.
        rounding: Whether both are first rounded to 8-bit levels, as files would hold them.

    Returns:
        8-bit levels, float64, one per image; 0 where the mean colours are the same.

    Raises:
        TypeError: They are no tensors, or hold integers other than uint8.
        ValueError: The shapes differ or are not `b 3 H W`, or a picture holds a NaN or values outside [0, 1].
    """
    restored, clean = _prepared("colour_error", restored, clean, rounding)
    return 255 * (restored.mean(dim=(2, 3)) - clean.mean(dim=(2, 3))).abs().mean(dim=1)


def eight_bit(image: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Gives the unit image that a file of 8-bit levels would hold: clamped and rounded to multiples of 1/255.

    Args:
        image: Unit, [0, 1].
    """
    return (image.clamp(0, 1) * 255).round() / 255


def _prepared(who: str, restored: Image, clean: Image, rounding: bool) -> tuple[Tensor, Tensor]:
    shapes = [tuple(getattr(image, "shape", ())) for image in (restored, clean)]
    if shapes[0] != shapes[1] or len(shapes[1]) != 4 or shapes[1][1] != 3:
        raise ValueError(
            f"{who}: expected two image batches of one shape b 3 H W, got {shapes[0]} and {shapes[1]}; "
            "resize the restored image, or add a batch axis with image[None]."
        )
    restored = unit_images(who, restored, what="restored images").detach()
    clean = unit_images(who, clean, what="clean images").detach()
    # rounded in their own type, as for a file: pixels often lie halfway between levels, and float64 would not
    if rounding:
        restored, clean = ((image.clamp(0, 1) * 255).round().double() / 255 for image in (restored, clean))
    # float64: the variances of SSIM are small differences of large numbers
    return restored.double(), clean.double()


def _windowed(image: Float[Tensor, "b c H W"]) -> Float[Tensor, "b c h w"]:
    positions = torch.arange(_WINDOW, dtype=image.dtype, device=image.device) - _WINDOW // 2
    window = torch.exp(-positions.square() / (2 * _SIGMA**2))
    window = (window / window.sum()).tolist()
    # float64 convolutions are slow on CPUs: shifted sums take a fifth of the time
    for axis in (-2, -1):
        length = image.shape[axis] - _WINDOW + 1
        total = image.narrow(axis, 0, length) * window[0]
        for place in range(1, _WINDOW):
            total.add_(image.narrow(axis, place, length), alpha=window[place])
        image = total
    return image

"""Differences of pixels: at several scales, so that coarse shapes and colours count like detail; chroma; hatch."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from codeprior.images import check_pixels
from codeprior.shapes import Image


def pyramid_loss(candidate: Image, image: Image, *, scales: int = 3) -> Float[Tensor, ""]:
    """Gives the mean over scales of the mean absolute difference; each scale halves the one before by averaging.

    Args:
        candidate: `b 3 H W`, any range.
        image: The same shape and range.
        scales: How many, including the full size.

    Returns:
        Scalar, in units of the images.

    Raises:
        TypeError: They are no floating-point images.
        ValueError: They are not `b 3 H W`; the shapes differ, or a side cannot be halved so often.

    Source: the multi-scale L1 of Laplacian-pyramid losses (Bojanowski et al. 2018, GLO), here on the averaged images
        themselves, so that the coarse ones also hold the mean colour.
    """
    _same("pyramid_loss", candidate, image)
    if min(image.shape[-2:]) < 2 ** (scales - 1):
        raise ValueError(f"pyramid_loss: {scales} scales need sides of {2 ** (scales - 1)} pixels, got {image.shape}.")
    # differences first: averaging is linear, so one pyramid serves both images
    difference, parts = candidate - image, []
    for scale in range(scales):
        difference = F.avg_pool2d(difference, 2) if scale else difference
        parts.append(difference.abs().mean())
    return torch.stack(parts).mean()


def chroma_loss(candidate: Image, image: Image) -> Float[Tensor, ""]:
    """Gives the mean absolute difference of both chroma channels, which an error of brightness alone leaves at zero.

    Cb and Cr of BT.601 in full range, as JPEG has them.

    Args:
        candidate: `b 3 H W`, any range.
        image: The same shape and range.

    Returns:
        Scalar, in units of the images.

    Raises:
        TypeError: They are no floating-point images.
        ValueError: They are not `b 3 H W`; the shapes differ.
    """
    _same("chroma_loss", candidate, image)
    # Cb = (B − Y) / 1.772, Cr = (R − Y) / 1.402
    red, green, blue = (candidate - image).unbind(1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return ((blue - luma).abs().mean() / 1.772 + (red - luma).abs().mean() / 1.402) / 2


def hatch_loss(candidate: Image, image: Image, *, window: int = 8) -> Float[Tensor, ""]:
    """Gives how much more or less two images alternate from pixel to pixel: in rows, in columns and as a chessboard.

    Networks that end in a pixel shuffle or a transposed convolution leave such a hatch, and perceptual networks whose
    first convolution moves by two pixels hardly see it. Each pattern's strength is the mean of a window's pixels
    with alternating signs; what counts is the absolute difference of the strengths.

    Args:
        candidate: `b 3 H W`, any range.
        image: The same shape and range.
        window: Side of the squares in which a pattern's strength is measured, an even number of pixels.

    Returns:
        Scalar, in units of the images.

    Raises:
        TypeError: They are no floating-point images.
        ValueError: They are not `b 3 H W`; the shapes differ, the window is odd or not positive, or a side is smaller
            than it.
    """
    _same("hatch_loss", candidate, image)
    height, width = image.shape[-2:]
    if window < 2 or window % 2 or min(height, width) < window:
        raise ValueError(
            "hatch_loss: expected an even window of at least 2 pixels, and no more than a side of the images, got "
            f"{window} for {height}×{width} pixels."
        )
    difference = candidate - image
    rows = 1.0 - 2.0 * (torch.arange(height, device=image.device) % 2).to(image.dtype)[:, None]
    columns = 1.0 - 2.0 * (torch.arange(width, device=image.device) % 2).to(image.dtype)
    parts = [F.avg_pool2d(difference * signs, window).abs().mean() for signs in (rows, columns, rows * columns)]
    return torch.stack(parts).mean()


def _same(who: str, candidate: Tensor, image: Tensor) -> None:
    for given in (candidate, image):
        check_pixels(who, given)
    if candidate.shape != image.shape:
        raise ValueError(
            f"{who}: expected two images b 3 H W of one shape, got {tuple(candidate.shape)} and {tuple(image.shape)}; "
            "resize one of them."
        )

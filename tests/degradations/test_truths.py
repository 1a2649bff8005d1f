"""Ops against independent implementations, written out: OpenCV, SciPy, torchvision, NumPy; on both paths of an op."""

import cv2
import numpy as np
import pytest
import torch
from scipy import special, stats
from torchvision.transforms.v2 import functional

from codeprior.degradations import (
    ColourJitter,
    DefocusBlur,
    GaussianBlur,
    GeneralisedBlur,
    KernelMix,
    MotionBlur,
    Op,
    PlateauBlur,
    Sinc,
    SpeckleNoise,
    Unsharp,
)
from codeprior.degradations.blur import kernel_matrices, kernel_matrix

from .reference import photograph


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixels(image: torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(image.permute(1, 2, 0).numpy())


def agree(op: Op, truth: np.ndarray, *, atol: float, image: torch.Tensor | None = None) -> None:
    """Both implementations give the truth, `H W 3`, for a unit image."""
    image = photograph(64) / 255 if image is None else image
    drawn = op.sample(image, rng())
    for impl in ("cpu", "torch"):
        result = op.apply(image, drawn, mode="strict", impl=impl)
        assert isinstance(result, torch.Tensor)
        np.testing.assert_allclose(pixels(result), truth, atol=atol, rtol=0)


@pytest.mark.parametrize(("size", "weight", "threshold"), [(51, 0.5, 10.0), (21, 1.5, 3.0)])
def test_unsharp_is_the_mask_of_a_gaussian_difference(size, weight, threshold):
    image = pixels(photograph(64) / 255)
    difference = image - cv2.GaussianBlur(image, (size, size), 0)  # 0: OpenCV's own σ for the size
    mask = (np.abs(difference) * 255 > threshold).astype(np.float32)
    mask = cv2.GaussianBlur(mask, (size, size), 0)
    truth = mask * np.clip(image + weight * difference, 0, 1) + (1 - mask) * image
    # the mask is 0 or 1: where a difference lies on the threshold to a rounding, one of 2600 taps changes sides
    agree(Unsharp(size=size, weight=weight, threshold=threshold), truth, atol=2e-3)


@pytest.mark.parametrize(("length", "angle", "truth"), [(9, 0.0, (9, 1)), (5, np.pi / 2, (1, 5)), (1, 0.0, (1, 1))])
def test_motion_along_an_axis_is_a_box(length, angle, truth):
    image = photograph(64) / 255
    op = MotionBlur(length=(length, length), angle=(angle, angle))
    agree(op, cv2.blur(pixels(image), truth, borderType=cv2.BORDER_REFLECT_101), atol=1e-6)


@pytest.mark.parametrize("angle", [0.3, 0.8, -1.2, 2.5])
def test_motion_is_a_line_of_light_of_its_length_and_direction(angle):
    """Against light spread over 4000 points of the line, each shared out to the four pixels around it."""
    length, size = 17, 41
    truth = np.zeros((size, size))
    for place in (np.arange(4000) + 0.5) / 4000 * length - length / 2:
        x, y = size // 2 + place * np.cos(angle), size // 2 + place * np.sin(angle)
        column, row = int(np.floor(x)), int(np.floor(y))
        for down, across in ((0, 0), (0, 1), (1, 0), (1, 1)):
            truth[row + down, column + across] += (1 - abs(y - row - down)) * (1 - abs(x - column - across)) / 4000
    ours = drawn_kernel(MotionBlur(size=(size,), length=(length, length), angle=(angle, angle)))
    assert np.corrcoef(ours.ravel(), truth.ravel())[0, 1] > 0.97
    for kernel in (ours, truth):
        y, x = np.mgrid[:size, :size] - size // 2
        np.testing.assert_allclose([(kernel * x).sum(), (kernel * y).sum()], 0, atol=1e-9)
    spread = [np.sqrt((kernel * (np.cos(angle) * x + np.sin(angle) * y) ** 2).sum()) for kernel in (ours, truth)]
    # a uniform line of 17 pixels has a standard deviation of 17 / √12
    np.testing.assert_allclose(spread, length / np.sqrt(12), rtol=0.03)


def drawn_kernel(op: Op) -> np.ndarray:
    """The kernel as an image sees it: the op's answer to a single bright pixel, turned round."""
    image = torch.zeros(3, 61, 61)
    image[:, 30, 30] = 1
    result = op(image, generator=rng(), mode="strict")
    assert isinstance(result, torch.Tensor)
    return np.asarray(result[0].numpy()[10:51, 10:51][::-1, ::-1], np.float64)


@pytest.mark.parametrize("radius", [1.5, 3.0, 6.2])
def test_defocus_is_the_area_of_a_disc_in_each_pixel(radius):
    """Against 32 × 32 points in each pixel."""
    fine = (np.arange(41 * 32) + 0.5) / 32 - 20.5
    disc = (fine[:, None] ** 2 + fine[None] ** 2 <= radius**2).reshape(41, 32, 41, 32).mean((1, 3))
    ours = drawn_kernel(DefocusBlur(size=(41,), radius=(radius, radius)))
    assert ours[20, 20] == pytest.approx(ours.max())
    # a straight edge one pixel wide in place of the circle's own: less than a fifth of a pixel anywhere
    np.testing.assert_allclose(ours / ours.max(), disc, atol=0.2)
    assert (ours / ours.max()).sum() == pytest.approx(np.pi * radius**2, rel=0.06)


@pytest.mark.parametrize(("size", "cutoff"), [(7, 2.4), (13, 1.2), (21, 0.7)])
def test_sinc_is_the_bessel_function_of_scipy(size, cutoff):
    y, x = np.mgrid[:size, :size] - size // 2
    radius = np.hypot(x, y)
    radius[size // 2, size // 2] = 1
    kernel = cutoff * special.j1(cutoff * radius) / (2 * np.pi * radius)
    kernel[size // 2, size // 2] = cutoff**2 / (4 * np.pi)
    truth = cv2.filter2D(pixels(photograph(64) / 255), -1, kernel / kernel.sum())
    # the kernel's single precision, weights of both signs
    agree(Sinc(size=(size,), cutoff=(cutoff, cutoff)), truth, atol=2e-6)


def test_colour_jitter_is_torchvisions():
    op, image = ColourJitter(), (photograph(64) / 255).expand(24, -1, -1, -1)
    drawn = op.sample(image, rng())
    steps = (
        functional.adjust_brightness,
        functional.adjust_contrast,
        functional.adjust_saturation,
        functional.adjust_hue,
    )
    for impl in ("cpu", "torch"):
        results = op.apply(image, drawn, impl=impl)
        for row, result in enumerate(results):
            truth = image[row]
            for which in drawn.values["order"][row].tolist():
                truth = steps[which](truth, float(drawn.values["factors"][row, which]))
            # hue turns by a sector at its borders: there both sides are the same colour to a rounding
            torch.testing.assert_close(result, truth, atol=2e-5, rtol=0)


@pytest.mark.parametrize("grey", [0, 1])
def test_speckle_is_normal_noise_in_proportion_to_the_pixel(grey):
    """`image + image · n`, as scikit-image defines speckle; n is normal, and one field for all channels if grey."""
    image = torch.linspace(0.2, 0.6, 96).repeat(3, 96, 1)
    op = SpeckleNoise(sigma=(20, 20), grey=grey, clip=False)
    for impl in ("cpu", "torch"):
        result = op.apply(image, op.sample(image, rng(3)), impl=impl)
        assert isinstance(result, torch.Tensor)
        noise = ((result - image) / image * 255 / 20).numpy()
        assert stats.kstest(noise[0].ravel(), "norm").pvalue > 0.01
        between = np.corrcoef(noise.reshape(3, -1))
        np.testing.assert_allclose(between, np.ones((3, 3)) if grey else np.eye(3), atol=1e-4 if grey else 0.04)
    clipped = SpeckleNoise(sigma=(200, 200))(image, generator=rng())
    assert isinstance(clipped, torch.Tensor) and clipped.min() == 0 and clipped.max() == 1


def test_kernels_of_a_batch_are_those_of_its_rows():
    sizes, every = (7, 13, 21), {"sigma": (0.3, 4), "size": (7, 13, 21)}
    kinds = (GaussianBlur(**every), GeneralisedBlur(**every), PlateauBlur(**every), Sinc(size=sizes))
    mix = KernelMix(blurs=(*kinds, MotionBlur(size=sizes), DefocusBlur(size=sizes)), weights=(1,) * 6)
    values = {name: value.numpy() for name, value in mix.sample((60, 8, 8), rng()).values.items()}
    assert set(values["kind"].tolist()) == set(range(6)) and set(values["size"].tolist()) == set(sizes)
    together = kernel_matrices(values)
    for number, kernel in enumerate(together):
        alone = kernel_matrix({name: value[number] for name, value in values.items()})
        margin = (len(kernel) - len(alone)) // 2
        np.testing.assert_allclose(kernel, np.pad(alone, margin), atol=1e-15)

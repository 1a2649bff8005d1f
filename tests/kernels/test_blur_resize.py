"""Blur with resizing: the Triton kernel that ships, in the interpreter where there is no GPU, against OpenCV."""

import cv2
import numpy as np
import pytest
import torch

from codeprior.kernels import blur_resize
from codeprior.kernels.blur_resize.fused import launch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def batch(sizes: list[tuple[int, int]], side: int, *, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Images on a canvas that is NaN outside them, and kernels with a preferred direction, some of them smaller."""
    draw = np.random.default_rng(seed)
    pixels = torch.full((len(sizes), 3, *np.max(sizes, 0)), float("nan"))
    kernels = np.zeros((len(sizes), side, side), np.float32)
    for number, (height, width) in enumerate(sizes):
        pixels[number, :, :height, :width] = torch.from_numpy(draw.random((3, height, width)).astype(np.float32))
        margin = number % (side // 2 + 1)
        inner = kernels[number, margin : side - margin, margin : side - margin]
        inner[:] = draw.random(inner.shape) ** 3
        inner /= inner.sum()
    return pixels, torch.from_numpy(kernels)


def opencv(image: torch.Tensor, kernel: torch.Tensor, target: tuple[int, int]) -> torch.Tensor:
    """OpenCV's two calls, written out."""
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    # in double precision, as its path for large kernels has it, and rounded once
    blurred = cv2.filter2D(pixels.astype(np.float64), -1, kernel.numpy().astype(np.float64)).astype(np.float32)
    return torch.from_numpy(cv2.resize(blurred, target[::-1], interpolation=cv2.INTER_LINEAR)).permute(2, 0, 1)


def as_tensors(*sizes: list[tuple[int, int]]) -> tuple[torch.Tensor, ...]:
    return tuple(torch.tensor(size, dtype=torch.int32, device=DEVICE) for size in sizes)


SIZES = [(1, 1), (2, 9), (17, 20), (20, 13)]
TARGETS = [(2, 3), (1, 4), (5, 6), (24, 3)]


def test_the_kernel_is_opencvs_blur_and_resize():
    pixels, kernels = batch(SIZES, 5)
    sizes, targets = as_tensors(SIZES, TARGETS)
    ours = launch(pixels.to(DEVICE), kernels.to(DEVICE), sizes, targets, (24, 6), lanes=256).cpu()
    for result, image, kernel, size, target in zip(ours, pixels, kernels, SIZES, TARGETS, strict=True):
        truth = opencv(image[:, : size[0], : size[1]], kernel, target)
        # five terms to a row in single precision, and a rounding
        torch.testing.assert_close(result[:, : target[0], : target[1]], truth, atol=1.5e-7, rtol=0)


def test_without_a_blur_it_is_opencvs_bilinear_rule_to_the_bit():
    sizes, targets = [(31, 17), (8, 8)], [(13, 9), (8, 5)]
    pixels, _ = batch(sizes, 1)
    ones = torch.ones(2, 1, 1, device=DEVICE)
    ours = launch(pixels.to(DEVICE), ones, *as_tensors(sizes, targets), (13, 9), lanes=128).cpu()
    for result, image, size, target in zip(ours, pixels, sizes, targets, strict=True):
        assert torch.equal(
            result[:, : target[0], : target[1]], opencv(image[:, : size[0], : size[1]], torch.ones(1, 1), target)
        )


def test_the_shipped_tiles_cut_an_image_in_parts():
    pixels, kernels = batch([(14, 15)], 3)
    sizes, targets = as_tensors([(14, 15)], [(19, 18)])
    ours = blur_resize(
        pixels.to(DEVICE), kernels.to(DEVICE), sizes=sizes, targets=targets, canvas=(19, 18), impl="triton"
    )
    truth = blur_resize(pixels, kernels, sizes=sizes.cpu(), targets=targets.cpu(), canvas=(19, 18), impl="reference")
    torch.testing.assert_close(ours.cpu(), truth, atol=1.2e-7, rtol=0)


def test_layouts_and_types_change_nothing():
    """A crop of a batch with the channels last, uint8 levels as floats, sizes of 64 bits."""
    whole = torch.rand(1, 12, 11, 3, generator=torch.Generator().manual_seed(0)).permute(0, 3, 1, 2)
    crop, kernel = whole[:, :, 1:11, 2:], torch.full((1, 3, 3), 1 / 9)
    size, target = torch.tensor([[10, 9]]), torch.tensor([[4, 5]])
    ours = [
        launch(image.to(DEVICE), kernel.to(DEVICE), size.to(DEVICE), target.to(DEVICE), (4, 5), lanes=32).cpu()
        for image in (crop, crop.contiguous())
    ]
    assert torch.equal(*ours)


@pytest.mark.gpu
def test_the_kernel_is_the_reference_on_the_gpu():
    sizes = [(512, 512), (300, 400), (41, 40), (5, 600)]
    targets = [(37, 37), (150, 90), (41, 50), (3, 700)]
    pixels, kernels = batch(sizes, 41)
    where = as_tensors(sizes, targets)
    ours = launch(pixels.cuda(), kernels.cuda(), *where, (150, 700)).cpu()
    truth = blur_resize(
        pixels.cuda(), kernels.cuda(), sizes=where[0], targets=where[1], canvas=(150, 700), impl="reference"
    )
    for result, expected, target in zip(ours, truth.cpu(), targets, strict=True):
        inside = (slice(None), slice(target[0]), slice(target[1]))
        torch.testing.assert_close(result[inside], expected[inside], atol=3e-7, rtol=0)


def test_an_empty_batch_stays_empty():
    nothing = torch.zeros(0, 3, 8, 8)
    found = launch(nothing, torch.zeros(0, 3, 3), torch.zeros(0, 2), torch.zeros(0, 2), (4, 4))
    assert found.shape == (0, 3, 4, 4)


def test_wrong_shapes_are_named():
    sizes = torch.ones(1, 2, dtype=torch.int32)
    with pytest.raises(ValueError, match=r"blur_resize: expected pixels \(b, 3, H, W\).*got \(1, 4, 8, 8\)"):
        blur_resize(torch.zeros(1, 4, 8, 8), torch.ones(1, 3, 3), sizes=sizes, targets=sizes, canvas=(1, 1))
    with pytest.raises(ValueError, match=r"expected kernels \(1, k, k\) with k odd, got \(1, 4, 4\)"):
        blur_resize(torch.zeros(1, 3, 8, 8), torch.ones(1, 4, 4), sizes=sizes, targets=sizes, canvas=(1, 1))

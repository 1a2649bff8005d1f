"""Each op against a truth: recorded outputs, libjpeg, OpenCV, formulas, distributions."""

import cv2
import numpy as np
import pytest
import torch
from scipy import stats

from codeprior.degradations import GaussianBlur, GaussianNoise, PoissonNoise, preset
from codeprior.degradations._canvas import Canvas
from codeprior.degradations._draws import normals
from codeprior.degradations._native_resize import resize_to_levels
from codeprior.degradations.resample import matrix, resized_as_opencv

from .reference import ipp_is_avx2, photograph


@pytest.mark.parametrize("name", ["bilinear", "bicubic", "area", "nearest"])
@pytest.mark.parametrize("target", [17, 48, 32, 100])
def test_matrices_are_opencvs_interpolations(name, target):
    image = np.random.default_rng(0).random((64, 64)).astype(np.float32)
    ways = {
        "bilinear": cv2.INTER_LINEAR,
        "bicubic": cv2.INTER_CUBIC,
        "area": cv2.INTER_AREA,
        "nearest": cv2.INTER_NEAREST,
    }
    truth = cv2.resize(image, (target, target), interpolation=ways[name])
    weights = matrix(64, target, name, "cv2")
    # OpenCV's weights are single precision; without IPP so are the places, and 3.5e-6 was seen
    np.testing.assert_allclose(weights @ image @ weights.T, truth, atol=2e-6 if ipp_is_avx2() else 8e-6)


def test_gradients_reach_the_image_through_a_whole_chain():
    image = (photograph(64) / 255).requires_grad_()
    op = preset("daefr")
    drawn = op.sample(image, torch.Generator().manual_seed(0))
    op.apply(image, drawn, mode="diff").square().sum().backward()
    assert image.grad is not None
    assert image.grad.isfinite().all()
    assert image.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="has no gradients; use mode='diff'"):
        op.apply(image, drawn)


def test_normal_numbers_are_normal_and_the_same_in_torch_and_native_code():
    assert stats.kstest(normals(11, 100_000), "norm").pvalue > 0.01
    image = torch.full((2, 3, 31, 17), 0.5)
    op = GaussianNoise(sigma=(5, 20), grey=0.5)
    drawn = op.sample(image, torch.Generator().manual_seed(0))
    assert torch.equal(op.apply(image, drawn), op.apply(image, drawn, impl="torch"))


def test_poisson_counts_are_poisson_and_the_same_in_torch():
    ramp = torch.linspace(0, 1, 256).repeat(3, 256, 1)
    op = PoissonNoise(scale=(1, 1), grey=0, clip=False)
    drawn = op.sample(ramp, torch.Generator().manual_seed(2))
    noisy = op.apply(ramp, drawn)
    assert torch.equal(noisy, op.apply(ramp, drawn, impl="torch"))
    counts = (noisy * 256)[:, :, 128].round()
    # mean and variance of a count are 128.5; 768 of them
    assert abs(counts.mean() - 128.5) < 4 * (128.5 / 768) ** 0.5
    assert 0.8 < counts.var() / 128.5 < 1.25


@pytest.mark.parametrize("size", [1, 2, 5, 20])
def test_kernels_larger_than_the_image_reflect_again_and_again(size):
    image = torch.rand(3, size, size + 1, generator=torch.Generator().manual_seed(0))
    op = GaussianBlur(size=(41,), sigma=(8, 8), isotropic=0)
    drawn = op.sample(image, torch.Generator().manual_seed(0))
    torch.testing.assert_close(op.apply(image, drawn), op.apply(image, drawn, impl="torch"), atol=1e-6, rtol=0)


@pytest.mark.parametrize("target", [64, 100, 256])
def test_bilinear_enlargement_of_squares_is_opencvs(target):
    """In BGR, as its own chains have it; natively and in torch, to the outermost columns."""
    draw = np.random.default_rng(target)
    for source in draw.integers(2, target, 12):
        image = draw.random((source, source, 3)).astype(np.float32)
        truth = cv2.resize(np.ascontiguousarray(image[..., ::-1]), (target, target))[..., ::-1]
        sizes = np.array([[source, source]])
        canvas = Canvas(torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None], sizes)
        ours = resized_as_opencv(canvas, np.array([[target, target]])).pixels[0].permute(1, 2, 0).numpy()
        # where a weight is 0 but for a rounding, the last place may differ
        # without IPP the places are single precision: 4.8e-6 was seen
        np.testing.assert_allclose(ours, truth, atol=6e-8 if ipp_is_avx2() else 1e-5, rtol=0)
        planes = np.empty((3, target, target), np.uint8)
        resize_to_levels(image, target, target, planes)
        levels = np.rint(truth * np.float32(255))
        assert np.abs(planes.transpose(1, 2, 0) - levels).max() <= (0 if ipp_is_avx2() else 1)

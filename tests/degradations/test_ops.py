"""Each op against a truth: recorded outputs, libjpeg, OpenCV, formulas, distributions."""

import sys

import cv2
import numpy as np
import pytest
import torch
from scipy import stats

from codeprior.degradations import GaussianBlur, GaussianNoise, Jpeg, PoissonNoise, Resize, preset
from codeprior.degradations._canvas import Canvas
from codeprior.degradations._kernels import kernel_matrix
from codeprior.degradations._normal import normals
from codeprior.degradations._torch_jpeg import exact_levels
from codeprior.degradations._torch_resize import matrix
from codeprior.degradations.compression import jpeg_levels
from tests.shared import shared_path

from .reference import photograph


@pytest.fixture(scope="module")
def recorded():
    return np.load(shared_path("parity/degradations/degradation_ops.npz"))


@pytest.fixture(scope="module")
def picture():
    sys.path.insert(0, str(shared_path("parity/fill.py").parent))
    from fill import image_for

    return ((image_for("degrade", 1, 64)[0] + 1) / 2).clamp(0, 1)


def gaussian(size, sigma_x, sigma_y, angle):
    return kernel_matrix({"kind": 0, "size": size, "sigma": (sigma_x, sigma_y), "angle": angle, "shape": 1})  # pyright: ignore


def test_kernels_are_the_recorded_ones(recorded):
    for name, values in {
        "k41_iso_s3": (41, 3, 3, 0),
        "k41_aniso_s2_s7_t0.6": (41, 2, 7, 0.6),
        "k39_aniso_s0.5_s10_t-2": (39, 0.5, 10, -2),
    }.items():
        # the same formula in double precision
        np.testing.assert_allclose(gaussian(*values), recorded[name], atol=1e-15)


def test_blur_and_reduction_are_the_recorded_ones(recorded, picture):
    blur = GaussianBlur(sigma=(2, 2))
    drawn = blur.sample(picture, torch.Generator().manual_seed(0)).replace(sigma=[2.0, 7.0], angle=0.6)
    blurred = blur.apply(picture, drawn)
    # the record holds single precision: an angle of 0.6 differs by 2e-8
    np.testing.assert_allclose(blurred.permute(1, 2, 0).numpy(), recorded["blur"], atol=2e-7)
    resize = Resize(factor=(3.7, 3.7))
    small = resize.apply(blurred, resize.sample(blurred, torch.Generator().manual_seed(0)))
    np.testing.assert_allclose(small.permute(1, 2, 0).numpy(), recorded["down_linear_17"], atol=3e-7)


def test_a_factor_of_0_8_gives_639_of_512():
    drawn = Resize(factor=(0.8, 0.8)).sample((512, 512), torch.Generator().manual_seed(0))
    assert drawn.values["size"].tolist() == [[639, 639]]


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
    # OpenCV's weights are single precision
    np.testing.assert_allclose(weights @ image @ weights.T, truth, atol=2e-6)


def test_jpeg_in_torch_has_no_mismatch_with_libjpeg():
    """Every quality, ragged sizes from 1×1 on, noise and photographs."""
    draw = np.random.default_rng(0)
    photo = photograph(256).permute(1, 2, 0).numpy()
    for first in range(1, 101, 20):
        quality = np.arange(first, first + 20, dtype=np.uint8)
        sizes = draw.integers(1, 65, (20, 2))
        sizes[:3] = [(1, 1), (2, 3), (17, 4)]
        pixels = np.zeros((20, 3, 64, 64), np.float32)
        truths = []
        for number, (height, width) in enumerate(sizes):
            top, left = draw.integers(0, 190, 2)
            image = photo[top : top + height, left : left + width]
            image = draw.integers(0, 256, image.shape).astype(np.uint8) if number % 2 else np.ascontiguousarray(image)
            pixels[number, :, :height, :width] = image.transpose(2, 0, 1) / np.float32(255)
            truths.append(jpeg_levels(image, int(quality[number])))
        levels = exact_levels(Canvas(torch.from_numpy(pixels), sizes), quality).numpy()
        for number, (height, width) in enumerate(sizes):
            np.testing.assert_array_equal(levels[number, :, :height, :width].transpose(1, 2, 0), truths[number])


def test_jpeg_keeps_exact_values_and_passes_gradients_in_diff_mode():
    image = (photograph(64) / 255).requires_grad_()
    op = Jpeg(quality=(90, 90))
    drawn = op.sample(image, torch.Generator().manual_seed(0))
    result = op.apply(image, drawn, mode="diff")
    # exact forward: adding and taking away the stand-in costs a rounding
    torch.testing.assert_close(result, op.apply(image.detach(), drawn), atol=1e-6, rtol=0)
    direction = torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(1))
    (result * direction).sum().backward()
    assert image.grad is not None
    # at quality 90 most of a random direction passes
    along = torch.nn.functional.cosine_similarity(image.grad.flatten(), direction.flatten(), 0)
    assert along > 0.3


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


@pytest.mark.parametrize(
    ("name", "path", "span"),
    [("daefr", "gaussian_noise.sigma", (0, 20)), ("daefr-codebook-lq", "gaussian_noise.sigma", (0, 20))],
)
def test_marginals_are_uniform(name, path, span):
    drawn = preset(name).sample((100_000, 512, 512), torch.Generator().manual_seed(0))
    uniform = stats.uniform(span[0], span[1] - span[0])
    assert stats.kstest(drawn.values[path].numpy(), uniform.cdf).pvalue > 0.01
    sigma = drawn.values["gaussian_blur.sigma"].numpy()
    high = 15 if name == "daefr" else 10
    assert stats.kstest(sigma[:, 0], stats.uniform(0.1, high - 0.1).cdf).pvalue > 0.01
    # binomial of 100 000: 0.5 ± 0.006
    assert abs((sigma[:, 0] == sigma[:, 1]).mean() - 0.5) < 0.006
    assert abs((drawn.values["gaussian_blur.size"].numpy() == 39).mean() - 0.5) < 0.006
    angles = drawn.values["gaussian_blur.angle"].numpy()[sigma[:, 0] != sigma[:, 1]]
    assert stats.kstest(angles, stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 0.01


@pytest.mark.parametrize("size", [1, 2, 5, 20])
def test_kernels_larger_than_the_image_reflect_again_and_again(size):
    image = torch.rand(3, size, size + 1, generator=torch.Generator().manual_seed(0))
    op = GaussianBlur(size=(41,), sigma=(8, 8), isotropic=0)
    drawn = op.sample(image, torch.Generator().manual_seed(0))
    torch.testing.assert_close(op.apply(image, drawn), op.apply(image, drawn, impl="torch"), atol=1e-6, rtol=0)

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from codeprior.metrics import colour_error, eight_bit, psnr, ssim


def _pair(seed: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    clean = torch.rand(2, 3, height, width, generator=generator)
    return (clean + 0.1 * torch.randn(clean.shape, generator=generator)).clamp(0, 1), clean


def _levels(image: torch.Tensor) -> np.ndarray:
    # in float32, as a file is written: of values that end in a half, float64 rounds some the other way
    return (image.permute(1, 2, 0) * 255).round().numpy().astype(np.uint8)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.integers(11, 40), st.integers(11, 40))
def test_psnr_and_ssim_agree_with_scikit_image(seed: int, height: int, width: int):
    restored, clean = _pair(seed, height, width)
    for index in range(2):
        first, second = _levels(restored[index]), _levels(clean[index])
        expected = structural_similarity(
            first, second, channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
        )[1][5 : height - 5, 5 : width - 5].mean()
        assert ssim(restored, clean)[index].item() == pytest.approx(expected, rel=1e-9)  # float64 on both sides
        expected = peak_signal_noise_ratio(second, first, data_range=255)
        assert psnr(restored, clean)[index].item() == pytest.approx(expected, rel=1e-12)


def test_psnr_of_a_constant_difference_is_its_formula():
    clean = torch.zeros(1, 3, 16, 16)
    assert psnr(clean + 16 / 255, clean).item() == pytest.approx(-20 * math.log10(16 / 255), rel=1e-12)


def test_identical_images_are_perfect():
    _, clean = _pair(0, 20, 17)
    assert psnr(clean, clean).tolist() == [math.inf, math.inf]
    assert ssim(clean, clean).tolist() == pytest.approx([1, 1], rel=1e-12)


def test_ssim_of_two_constants_is_the_luminance_term():
    first, second = torch.full((1, 3, 12, 12), 51 / 255), torch.full((1, 3, 12, 12), 204 / 255)
    expected = (2 * 0.2 * 0.8 + 1e-4) / (0.2**2 + 0.8**2 + 1e-4)
    assert ssim(first, second).item() == pytest.approx(expected, rel=1e-9)


def test_rounding_is_what_a_file_does():
    _, clean = _pair(1, 12, 12)
    nearly = (eight_bit(clean) + 0.4 / 255).clamp(0, 1)
    assert psnr(nearly, eight_bit(clean)).tolist() == [math.inf, math.inf]
    assert psnr(nearly, eight_bit(clean), rounding=False).max() < 60


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_shapes_that_differ_are_refused(metric):
    with pytest.raises(ValueError, match=r"one shape b 3 H W, got \(1, 3, 16, 16\) and \(1, 3, 8, 8\); resize"):
        metric(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 8, 8))


def test_ssim_refuses_images_smaller_than_its_window():
    with pytest.raises(ValueError, match="at least 11×11 pixels, got 10×12"):
        ssim(torch.zeros(1, 3, 10, 12), torch.zeros(1, 3, 10, 12))


def test_pixels_between_two_levels_go_where_a_file_sends_them():
    levels = torch.randint(0, 256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(0)).float()
    # means of four 8-bit pixels: a quarter of them ends in a half
    images = torch.nn.functional.avg_pool2d(levels / 255, 2)
    written = (images * 255).round().to(torch.uint8).float() / 255
    assert torch.equal(psnr(images[:1], images[1:]), psnr(written[:1], written[1:]))
    assert torch.equal(ssim(images[:1], images[1:]), ssim(written[:1], written[1:]))


def test_the_colour_error_is_the_distance_of_the_mean_colours():
    clean = torch.full((1, 3, 16, 16), 100 / 255)
    moved = clean + torch.tensor([6.0, -3.0, 0.0]).view(1, 3, 1, 1) / 255
    assert colour_error(moved, clean).item() == pytest.approx(3, rel=1e-12)  # (6 + 3 + 0) / 3 levels
    # detail that leaves the mean colour is no error
    moved[..., ::2] += 20 / 255
    moved[..., 1::2] -= 20 / 255
    assert colour_error(moved, clean).item() == pytest.approx(3, rel=1e-12)
    with pytest.raises(ValueError, match="colour_error: expected two image batches of one shape"):
        colour_error(clean[0], clean[0])

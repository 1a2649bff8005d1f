"""The measured limit is the frequency that theory gives for damage whose transfer is known."""

import math

import pytest
import torch

from codeprior.degradations import Chain, GaussianBlur, GaussianNoise, Resize, ResizeBack
from codeprior.estimators import measured_limit, radial_spectrum


@pytest.fixture(scope="module")
def natural():
    """Gives a picture whose amplitude falls with frequency as that of photographs does, `3 256 256`."""
    generator = torch.Generator().manual_seed(3)
    radius = torch.hypot(torch.fft.fftfreq(256)[:, None], torch.fft.rfftfreq(256)[None]).clamp_min(1 / 256)
    noise = torch.fft.rfft2(torch.randn(256, 256, generator=generator))
    plane = torch.fft.irfft2(noise / radius, s=(256, 256))
    return (0.5 + 0.15 * plane / plane.std()).clamp(0, 1).expand(3, 256, 256).contiguous()


@pytest.mark.parametrize("sigma", [1.0, 2.0, 4.0])
def test_a_blur_is_limited_where_its_transfer_is_one_half(natural, sigma):
    blur = GaussianBlur(sigma=(sigma, sigma), isotropic=1)
    blurred = blur(natural, generator=torch.Generator().manual_seed(0))
    expected = math.sqrt(math.log(2) / 2) / math.pi / sigma  # exp(-2 π² σ² f²) = ½
    assert measured_limit(natural, blurred) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_reduction_is_limited_below_its_nyquist_frequency(natural, factor):
    chain = Chain(ops=(Resize(factor=(factor, factor), interpolation="area"), ResizeBack(interpolation="bicubic")))
    reduced = chain(natural, generator=torch.Generator().manual_seed(0))
    # averaging over the block takes a third of the amplitude at the Nyquist frequency, cubic interpolation half
    assert 0.75 * 0.5 / factor < measured_limit(natural, reduced) <= 0.5 / factor


def test_noise_is_limited_where_it_reaches_half_the_amplitude(natural):
    sigma = 12.0
    noisy = GaussianNoise(sigma=(sigma, sigma))(natural, generator=torch.Generator().manual_seed(0))
    frequencies, power = radial_spectrum(natural)
    # the noise of each channel is its own, so that luma holds less of it
    noise = sigma**2 * (0.299**2 + 0.587**2 + 0.114**2)
    expected = float(frequencies[power < 4 * noise][0])
    assert measured_limit(natural, noisy) == pytest.approx(expected, rel=0.13)  # a ring is 12 % wide


def test_an_undamaged_picture_has_the_whole_band(natural):
    assert measured_limit(natural, natural) == 0.5


def test_white_noise_has_its_variance_in_every_ring():
    generator = torch.Generator().manual_seed(1)
    draws = torch.randn(20, 1, 200, 160, generator=generator) * 5 / 255
    spectra = [radial_spectrum(noise.expand(3, -1, -1)) for noise in draws]
    frequencies = spectra[0][0]
    assert bool((frequencies.diff() > 0).all()) and float(frequencies[-1]) <= 0.5
    power = torch.stack([power for _, power in spectra]).mean(0)
    # rings further in hold too few coefficients for their mean to be close
    assert power[frequencies > 0.1].numpy() == pytest.approx(25, rel=0.1)


def test_faces_of_two_sizes_cannot_be_compared():
    with pytest.raises(
        ValueError, match=r"two faces `3 H W` of one size, at least 32 pixels a side; got \(3, 64, 64\)"
    ):
        measured_limit(torch.zeros(3, 64, 64), torch.zeros(3, 64, 32))
    with pytest.raises(ValueError, match="at least 32 pixels"):
        measured_limit(torch.zeros(3, 16, 16), torch.zeros(3, 16, 16))

"""What a face still holds is kept and what its blur took is added, in bands of spatial frequency."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from codeprior.photos.bands import Crossover, _borders, _box, _image, _spectrum, keep_trustworthy, scaled

_SIDE = 96


def _wave(cycles: float, side: int = _SIDE) -> torch.Tensor:
    at = (torch.arange(side) + 0.5) / side
    return (0.5 + 0.2 * torch.cos(2 * math.pi * cycles * at)).expand(3, side, side).clone()


def _amplitude(image: torch.Tensor, cycles: float) -> float:
    """Gives the amplitude of a wave across the middle of a face, in shares of that of `_wave`."""
    side = image.shape[-1]
    part = image[:, side // 4 : -side // 4, side // 4 : -side // 4]
    wave = (_wave(cycles, side) - 0.5)[:, side // 4 : -side // 4, side // 4 : -side // 4]
    return float(((part - part.mean()) * wave).sum() / wave.square().sum())


def _noisy(image: torch.Tensor, levels: float) -> torch.Tensor:
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    return (image + noise * levels / 255).clamp(0, 1)


def test_slow_bands_are_the_faces_and_fast_ones_the_models():
    grey = torch.full((3, _SIDE, _SIDE), 0.5)
    crossover = Crossover(transfer=12, reach=24)
    for cycles, kept in ((2, 0.97), (24, 0.5)):
        assert _amplitude(keep_trustworthy(_wave(cycles), grey, crossover), cycles) >= kept * 0.98
    assert _amplitude(keep_trustworthy(_wave(44), grey, crossover), 44) < 0.01
    # what the model adds is what a blur of that transfer takes away
    for cycles in (2, 8, 12, 20, 30):
        added = _amplitude(keep_trustworthy(grey, _wave(cycles), Crossover(12, math.inf)), cycles)
        assert abs(added - (1 - 0.5 ** ((cycles / 12) ** 2))) < 0.03


def test_what_a_reduction_took_is_added_later_and_steeper():
    grey = torch.full((3, _SIDE, _SIDE), 0.5)
    for cycles in (4, 12, 16, 24):
        crossover = Crossover(transfer=math.inf, reach=math.inf, reduced=16)
        added = _amplitude(keep_trustworthy(grey, _wave(cycles), crossover), cycles)
        assert abs(added - (1 - 0.5 ** ((cycles / 16) ** 4))) < 0.03


def test_a_blurred_face_and_the_model_that_knows_it_give_the_sharp_face():
    """The blur of the formula, undone by a model that is right: nothing is doubled and nothing is missing."""
    for cycles in (4, 10, 20):
        sharp = _wave(cycles)
        blurred = 0.5 + (sharp - 0.5) * 0.5 ** ((cycles / 10) ** 2)
        assert (keep_trustworthy(blurred, sharp, Crossover(10, math.inf)) - sharp)[:, 16:-16, 16:-16].abs().max() < 0.01


def test_a_blur_that_was_estimated_too_weak_leaves_no_haze():
    """Where a blur is twice as strong as estimated, the fit finds it; without it half of a wave is missing."""
    waves = {cycles: (_wave(cycles) - 0.5) / 2 for cycles in (4, 7, 10, 14)}
    sharp = 0.5 + torch.stack(list(waves.values())).sum(0)
    blurred = 0.5 + torch.stack([wave * 0.5 ** ((cycles / 6) ** 2) for cycles, wave in waves.items()]).sum(0)
    estimated = Crossover(12, math.inf)

    def missing(crossover: Crossover, levels: float) -> float:
        found = keep_trustworthy(_noisy(blurred, levels) if levels else blurred, sharp, crossover)
        return float((found - sharp)[:, 16:-16, 16:-16].abs().mean())

    # noise of 4 levels is there in both, and moves the fit no further
    for levels, most in ((0, 0.005), (4, 0.016)):
        assert missing(estimated._replace(fitted=True), levels) < most < 0.03 < missing(estimated, levels)
    # a blur that was estimated too strong is left as it was: the model would add too little
    strong = Crossover(5, math.inf)
    assert torch.equal(
        keep_trustworthy(blurred, sharp, strong), keep_trustworthy(blurred, sharp, strong._replace(fitted=True))
    )


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 99), side=st.sampled_from([33, 64, 100]), model=st.sampled_from([32, 64, 128]))
def test_an_unblurred_face_comes_back_whatever_the_model_says(seed, side, model):
    generator = torch.Generator().manual_seed(seed)
    face, restored = torch.rand(3, side, side, generator=generator), torch.rand(3, model, model, generator=generator)
    kept = keep_trustworthy(face, restored, Crossover(math.inf, math.inf))
    assert torch.allclose(kept, face, atol=1e-5)
    nothing = keep_trustworthy(face, restored, Crossover(0, 0))
    if model >= side:
        assert torch.allclose(nothing, scaled(restored, side), atol=1e-5)


def test_a_model_adds_nothing_above_what_its_size_can_show():
    """Noise of 32 pixels enlarged fourfold: above its 16 cycles a side nothing is left of it."""
    face = torch.full((3, 128, 128), 0.5)
    restored = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0))
    window = torch.hann_window(128)[:, None] * torch.hann_window(128)
    power = torch.fft.fft2((keep_trustworthy(face, restored, Crossover(2, 4))[0] - 0.5) * window).abs().square()
    radius = torch.hypot(torch.fft.fftfreq(128)[:, None], torch.fft.fftfreq(128)[None]) * 128
    # the window widens every frequency by two cycles
    assert float(power[radius > 24].sum() / power.sum()) < 1e-3
    assert float(power[radius < 14].sum() / power.sum()) > 0.5


def test_noise_below_the_limit_is_not_brought_back():
    smooth = torch.full((3, _SIDE, _SIDE), 0.5)
    noisy = _noisy(smooth, 20)
    told = keep_trustworthy(noisy, smooth, Crossover(24, 48, noise=20))
    untold = keep_trustworthy(noisy, smooth, Crossover(24, 48))
    assert float(told.std()) < 0.35 * float(untold.std())
    assert float(told.std()) * 255 < 5


def test_detail_that_stands_out_of_the_noise_stays():
    """A strong edge in a noisy face keeps its slope, while flat places lose their noise."""
    edge = torch.full((3, 128, 128), 0.25)
    edge[:, :, 64:] = 0.75
    done = keep_trustworthy(_noisy(edge, 12), edge.mean().expand(3, 64, 64), Crossover(math.inf, math.inf, noise=12))
    slope = (done[:, 32:96, 64] - done[:, 32:96, 63]).mean()
    assert slope > 0.4  # of 0.5: steeper than the same edge blurred by half a pixel
    assert done[:, 32:96, 8:40].std() * 255 < 6


def test_strong_detail_of_brightness_lets_no_noise_of_colour_through():
    """A pattern of grey stripes under noise of colours: the stripes stay and the colours go."""
    stripes = _wave(16)
    done = keep_trustworthy(_noisy(stripes, 15), stripes.mean().expand(3, 48, 48), Crossover(math.inf, math.inf, 15))
    colour = (done - done.mean(0))[:, 16:-16, 16:-16]
    assert colour.std() * 255 < 5
    # 0.85: the filter's margin of one and a half times the noise takes the rest
    assert _amplitude(done, 16) > 0.8


def test_there_is_no_step_where_both_faces_meet():
    """On a plain face the result may change no faster than what the model gave, band by band."""
    restored = F.interpolate(
        torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(3)), size=(64, 64), mode="bicubic"
    )
    done = keep_trustworthy(torch.full((3, 64, 64), 0.4), restored[0].clamp(0, 1), Crossover(6, 12))
    assert done.diff(dim=1).abs().max() <= restored.diff(dim=2).abs().max() * 1.1


def test_wrong_faces_and_figures_are_refused():
    with pytest.raises(ValueError, match=r"expected faces 3 n n and 3 m m, got \(3, 8, 9\) and \(3, 8, 8\)"):
        keep_trustworthy(torch.zeros(3, 8, 9), torch.zeros(3, 8, 8), Crossover(1, 1))
    with pytest.raises(ValueError, match="expected figures of 0 and more"):
        keep_trustworthy(torch.zeros(3, 8, 8), torch.zeros(3, 8, 8), Crossover(-1, 1))


@pytest.mark.parametrize("reach", [1, 3, 20])
def test_a_mean_by_sums_is_the_mean_of_a_window(reach):
    values = torch.rand(2, 12, 12, generator=torch.Generator().manual_seed(0))
    values[0, :4] *= 1e-6
    window = 2 * reach + 1
    expected = F.avg_pool2d(F.pad(values[None].double(), [reach] * 4, mode="replicate"), window, stride=1)[0]
    found = _box(_box(values, reach).mT, reach).mT
    assert torch.allclose(found.double(), expected, rtol=1e-6, atol=1e-14)


@pytest.mark.parametrize("side", [5, 9, 33, 97, 331, 512])
def test_a_transform_is_even_and_has_small_factors_and_gives_the_face_back(side):
    before, after = _borders(side)
    whole = before + side + after
    assert max(before, after) < side  # what is mirrored
    rest = whole
    for factor in (2, 3, 5):
        while rest % factor == 0:
            rest //= factor
    assert side < 8 or (rest == 1 and whole % 2 == 0)
    face = torch.rand(3, side, side, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(_image(_spectrum(face), side), face, atol=1e-6)

"""The numbers that damage is estimated from show what is known to be in the picture."""

import pytest
import torch
from torch.nn import functional as F

from codeprior.degradations import GaussianNoise, Jpeg
from codeprior.estimators import face_statistics
from codeprior.estimators.statistics import _QUALITIES, _RINGS, COUNT, LEVELS, SPECTRAL, levels_of

_STEPS = slice(COUNT - 3 - 14 - len(_QUALITIES), COUNT - 3 - 14)


def textured(side: int, seed: int = 0) -> torch.Tensor:
    """Gives a picture with smooth places and detail, `3 side side`."""
    generator = torch.Generator().manual_seed(seed)
    coarse, fine = (
        torch.rand(1, 3, max(2, side // cell), max(2, side // cell), generator=generator) for cell in (32, 3)
    )
    grown = [F.interpolate(part, size=(side, side), mode="bicubic") for part in (coarse, fine)]
    return (0.7 * grown[0] + 0.3 * grown[1]).clamp(0, 1)[0]


@pytest.mark.parametrize(("height", "width"), [(32, 32), (48, 33), (64, 64), (255, 100), (512, 512), (2000, 40)])
def test_a_row_is_as_long_whatever_the_size_of_the_face(height, width):
    row = face_statistics(textured(max(height, width))[:, :height, :width])
    assert row.shape == (COUNT,) and bool(row.isfinite().all())


def test_levels_that_the_face_is_too_small_for_are_flagged():
    for side, there in ((32, 1), (64, 2), (127, 2), (512, 5), (640, 5)):
        row = face_statistics(textured(side))
        assert row[SPECTRAL : SPECTRAL + LEVELS].tolist() == [1.0] * there + [0.0] * (LEVELS - there)
        for level, place in enumerate(levels_of(LEVELS)):
            assert bool((row[place] == 0).all()) == (level >= there)


def test_white_noise_has_its_variance_in_every_ring_of_the_finest_level():
    noise = torch.randn(1, 256, 256, generator=torch.Generator().manual_seed(0)).expand(3, -1, -1)
    mean = face_statistics((0.5 + noise * 8 / 255).clamp(0, 1))[:_RINGS]
    # log2(8²); the first rings hold few coefficients
    assert mean[3:].numpy() == pytest.approx(6, abs=0.1)


@pytest.mark.parametrize("quality", [30, 50, 75, 90, 95])
@pytest.mark.parametrize("corner", [(0, 0), (3, 5)])
def test_coefficients_fit_the_steps_of_the_quality_that_compressed_them(quality, corner):
    face = textured(256)
    compressed = Jpeg(quality=(quality, quality))(face, generator=torch.Generator().manual_seed(0))
    row = face_statistics(compressed[:, corner[0] :, corner[1] :])
    assert _QUALITIES[int(row[_STEPS].argmax())] == quality
    assert float(row[_STEPS].max()) > 0.6
    assert float(face_statistics(face)[_STEPS][2:].max()) < 0.5


def test_noise_fills_the_smoothest_tiles():
    face = textured(128)
    noisy = GaussianNoise(sigma=(10, 10))(face, generator=torch.Generator().manual_seed(0))
    low = slice(_RINGS, 2 * _RINGS)  # the lower tenth of the tiles
    assert bool((face_statistics(noisy)[low][8:] > face_statistics(face)[low][8:]).all())


def test_a_flat_face_has_finite_numbers():
    for level in (0.0, 0.5, 1.0):
        assert bool(face_statistics(torch.full((3, 64, 64), level)).isfinite().all())

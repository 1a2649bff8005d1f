"""Differences of pixels against their formulas."""

import pytest
import torch
from torch.nn import functional as F

from codeprior.losses import chroma_loss, hatch_loss, pyramid_loss


def _images():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 2, 3, 16, 12, generator=generator, dtype=torch.float64).unbind(0)


def test_the_pyramid_is_the_mean_over_averaged_images():
    candidate, image = _images()
    parts = [(candidate - image).abs().mean()]
    for size in (2, 4):
        parts.append((F.avg_pool2d(candidate, size) - F.avg_pool2d(image, size)).abs().mean())
    torch.testing.assert_close(pyramid_loss(candidate, image), torch.stack(parts).mean())
    torch.testing.assert_close(pyramid_loss(candidate, image, scales=1), parts[0])


def test_a_shift_of_colour_counts_at_every_scale_and_noise_at_the_finest():
    image = torch.zeros(1, 3, 64, 64)
    noise = torch.where(torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) < 0.5, 0.1, -0.1)
    assert float(pyramid_loss(image + 0.1, image)) == pytest.approx(0.1)
    assert float(pyramid_loss(noise, image)) < 0.07


def test_chroma_does_not_see_brightness():
    _, image = _images()
    assert float(chroma_loss(image + 0.2, image)) == pytest.approx(0.0, abs=1e-12)
    redder = image.clone()
    redder[:, 0] += 0.3
    # luma rises by 0.299 · 0.3; Cb and Cr by its share of blue and of red
    expected = (0.299 * 0.3 / 1.772 + 0.701 * 0.3 / 1.402) / 2
    assert float(chroma_loss(redder, image)) == pytest.approx(expected)


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="pyramid_loss: expected two images b 3 H W of one shape"):
        pyramid_loss(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 4))
    with pytest.raises(ValueError, match="chroma_loss: expected images b 3 H W"):
        chroma_loss(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8))
    with pytest.raises(ValueError, match="3 scales need sides of 4 pixels"):
        pyramid_loss(torch.zeros(1, 3, 2, 8), torch.zeros(1, 3, 2, 8))


@pytest.mark.parametrize("pattern", ["rows", "columns", "chessboard"])
def test_a_hatch_counts_by_its_strength_and_smooth_changes_do_not(pattern):
    image = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    row, column = 1.0 - 2.0 * (torch.arange(16) % 2)[:, None], 1.0 - 2.0 * (torch.arange(24) % 2)
    hatch = {"rows": row.expand(16, 24), "columns": column.expand(16, 24), "chessboard": row * column}[pattern]
    # one of three patterns, everywhere
    assert float(hatch_loss(image + 0.1 * hatch, image)) == pytest.approx(0.1 / 3)
    assert float(hatch_loss(image + 0.3, image)) == pytest.approx(0.0, abs=1e-12)
    assert float(hatch_loss(image, image)) == 0


def test_a_hatch_that_the_picture_has_is_to_be_there():
    hatched = (1.0 - 2.0 * (torch.arange(16) % 2)).expand(1, 3, 16, 16)
    assert float(hatch_loss(torch.zeros(1, 3, 16, 16), hatched)) == pytest.approx(1 / 3)


@pytest.mark.parametrize("window", [0, 3, 18])
def test_windows_that_cannot_measure_a_hatch_are_refused(window):
    with pytest.raises(ValueError, match=r"hatch_loss: expected an even window of at least 2 .* for 16×16"):
        hatch_loss(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16), window=window)

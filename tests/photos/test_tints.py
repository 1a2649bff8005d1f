"""Pictures of one tint are recognised through noise and JPEG, colours are not taken for one, and luma stays."""

import csv
from io import BytesIO

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from codeprior.photos.tints import Tint, find_tint
from tests.photos.corpus import scene
from tests.shared import shared_path

_LUMA = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)


def _luma(image: torch.Tensor) -> torch.Tensor:
    return (image * _LUMA).sum(0)


def _grey(image):
    return _luma(image).expand(3, -1, -1).clone()


def _sepia(image):
    y = _luma(image)
    return torch.stack([0.83 * y + 0.17, 0.85 * y + 0.1, 0.9 * y])


def _cyanotype(image):
    """Prussian blue in the shadows, the paper in the lights: a curve, not a line."""
    y = _luma(image)
    return torch.stack([0.93 * y**1.6 + 0.02, 0.87 * y**1.1 + 0.08, 0.7 * y**0.75 + 0.27])


_TINTS = {"grey": _grey, "sepia": _sepia, "cyanotype": _cyanotype}


def _scene(side: int = 160) -> torch.Tensor:
    return torch.from_numpy(scene(side, side)).permute(2, 0, 1).float() / 255


def _jpeg(image: torch.Tensor, quality: int) -> torch.Tensor:
    file = BytesIO()
    levels = (image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(levels).save(file, "JPEG", quality=quality)
    return torch.from_numpy(np.asarray(Image.open(file)).copy()).permute(2, 0, 1).float() / 255


def _noisy(image: torch.Tensor, levels: float) -> torch.Tensor:
    return (image + torch.randn(image.shape, generator=torch.Generator().manual_seed(1)) * levels / 255).clamp(0, 1)


@pytest.mark.parametrize("name", _TINTS)
@pytest.mark.parametrize("damage", ["none", "jpeg 90", "jpeg 40", "noise 12", "noise 12, jpeg 50"])
def test_one_tint_is_found_and_put_back(name, damage):
    clean = _TINTS[name](_scene())
    seen = _noisy(clean, 12) if "noise" in damage else clean
    seen = _jpeg(seen, int(damage.split()[-1])) if "jpeg" in damage else seen
    tint = find_tint(seen)
    assert tint is not None
    back = tint.over(clean[None])[0]
    assert (back - clean).abs().mean() * 255 < (3 if name == "cyanotype" else 1.5)
    assert tint.grey == (name == "grey")


def test_a_grey_picture_comes_back_in_three_equal_channels():
    tint = find_tint(_noisy(_grey(_scene()), 8))
    assert tint is not None
    coloured = torch.rand(2, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    grey = tint.over(coloured)
    assert torch.equal(grey[:, 0], grey[:, 1]) and torch.equal(grey[:, 0], grey[:, 2])
    assert torch.allclose(grey[:, 0], (coloured * _LUMA).sum(1), atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(red=st.floats(-0.2, 0.2), blue=st.floats(-0.2, 0.2), slope=st.floats(-0.3, 0.3), seed=st.integers(0, 9))
def test_a_tint_changes_no_luma_inside_the_range(red, blue, slope, seed):
    tint = Tint(torch.tensor([[red, slope, 0.0], [blue, -slope, 0.0]]), 0.0, 1.0)
    image = 0.35 + 0.3 * torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    tinted = tint.over(image)
    if tinted.min() > 0 and tinted.max() < 1:
        assert torch.allclose((tinted * _LUMA).sum(1), (image * _LUMA).sum(1), atol=1e-5)


def _blotches(image: torch.Tensor, levels: float, *, side: int = 6) -> torch.Tensor:
    """Colour of a level or two that is alike over a sixth of the picture, as stains and scanners leave it."""
    drawn = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(2))
    stains = torch.nn.functional.interpolate(drawn, size=image.shape[1:], mode="bicubic")[0]
    stains = stains - _luma(stains)
    return (image + stains / stains.square().sum(0).mean().sqrt() * levels / 255).clamp(0, 1)


@pytest.mark.parametrize("damage", ["none", "jpeg 60", "noise 8, jpeg 60"])
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_faint_blotches_on_a_grey_picture_are_no_colours(levels, damage):
    seen = _blotches(_grey(_scene()), levels)
    seen = _noisy(seen, 8) if "noise" in damage else seen
    assert find_tint(_jpeg(seen, 60) if "jpeg" in damage else seen) is not None


def test_a_small_coloured_place_on_a_grey_picture_stays_coloured():
    for side in (6, 10, 20):
        image = _blotches(_grey(_scene()), 2)
        image[0, 90 : 90 + side, 70 : 70 + side] = image[0, 90 : 90 + side, 70 : 70 + side] * 0.5 + 0.5  # lips, by hand
        assert find_tint(image) is None, side


def test_stronger_blotches_and_pale_colours_stay():
    assert find_tint(_blotches(_grey(_scene()), 9)) is None
    pale = _grey(_scene()) + 0.12 * (_scene() - _grey(_scene()))
    assert find_tint(pale) is None


def test_a_stained_historic_photograph_is_of_one_tint():
    folder = shared_path("data/portraits") / "low_quality"
    for name in ("lq02.jpg", "lq02_photo.jpg"):
        levels = torch.from_numpy(np.asarray(Image.open(folder / name).convert("RGB")).copy())
        assert find_tint(levels.permute(2, 0, 1).float() / 255) is not None, name


def test_colours_are_not_taken_for_a_tint():
    assert find_tint(_scene()) is None
    pale = _grey(_scene()) + 0.3 * (_scene() - _grey(_scene()))
    assert find_tint(pale) is None
    assert find_tint(_noisy(_jpeg(pale, 40), 8)) is None
    # no colour of one place is like that of the next, and still there is much of it
    assert find_tint(torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(0))) is None


def test_a_plain_or_tiny_picture_is_no_trouble():
    plain = find_tint(torch.full((3, 40, 40), 0.5))
    assert plain is not None and plain.grey
    assert find_tint(torch.zeros(3, 4, 4)) is None
    assert find_tint(torch.ones(3, 40, 40)) is not None


def test_no_colour_portrait_is_taken_for_one_tint():
    """Every fortieth portrait of all sources, and the same with a third of its colour."""
    folder = shared_path("data/portraits")
    with (folder / "index.csv").open() as lines:
        names = [row["file"] for row in csv.DictReader(lines)]
    found = []
    for name in names[::40]:
        levels = torch.from_numpy(np.asarray(Image.open(folder / name).convert("RGB")).copy())
        image = levels.permute(2, 0, 1).float() / 255
        pale = _grey(image) + 0.35 * (image - _grey(image))
        found += [name] * (find_tint(image) is not None) + [f"pale {name}"] * (find_tint(pale) is not None)
    assert len(names[::40]) > 30
    assert not found

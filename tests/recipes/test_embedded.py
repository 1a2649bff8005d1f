"""The embedded prior restores people that it never saw: what its card claims, on a part of the test faces."""

import pytest
import torch

from codeprior.evaluation import build
from codeprior.metrics import psnr, ssim
from codeprior.photos.faces import match_colour
from codeprior.recipes.daefr import load
from codeprior.weights import read_metadata
from tests.shared import shared_path


@pytest.fixture(scope="module")
def restorations():
    """Gives clean, degraded and restored faces, `b 3 128 128`, unit."""
    folder, restorer = shared_path("data/faces"), load("small")
    pairs = list(build(folder, preset="daefr", seed=0, split="test", limit=24).batches(folder, size=128))
    assert not any(pair.gone for pair in pairs)
    clean, degraded = (torch.cat([getattr(pair, name) for pair in pairs]) for name in ("clean", "degraded"))
    return clean, degraded, restorer(degraded)


def test_restored_faces_are_nearer_in_structure(restorations):
    clean, degraded, restored = restorations
    gain = ssim(restored, clean) - ssim(degraded, clean)
    assert gain.mean() > 0.02  # 0.045 when it was trained
    assert (gain > 0).double().mean() > 0.6


def test_coarse_colours_of_the_input_take_the_drift_away(restorations):
    clean, degraded, restored = restorations
    matched = match_colour(restored, degraded)
    # 2.1 dB when it was trained
    assert (psnr(matched, clean) - psnr(restored, clean)).mean() > 1
    assert ssim(matched, clean).mean() > ssim(degraded, clean).mean() + 0.02


def test_restored_faces_are_as_sharp_as_clean_ones(restorations):
    # blur would win on PSNR; energy of neighbouring differences says how much detail a face has
    clean, degraded, restored = (_detail(images) for images in restorations)
    assert (degraded / clean).median() < 0.5
    assert 0.6 < (restored / clean).median() < 1.4  # 0.79 when it was trained


def test_the_file_says_its_licence(request):
    from codeprior.recipes import daefr

    path = next(iter(daefr.__path__)) + "/weights/daefr_small.safetensors"
    assert "non-commercial" in read_metadata(path)["licence"]


def _detail(images):
    return (images.diff(dim=-1)[..., :-1, :].square() + images.diff(dim=-2)[..., :-1].square()).mean((1, 2, 3)).sqrt()

"""Metrics refuse what they would get wrong, name the picture, and take 8-bit levels; empty cells have a reason."""

import math

import numpy as np
import pytest
import torch

from codeprior.metrics import Provenance, niqe, perceptual_distance, psnr, score, ssim
from codeprior.metrics.measures import Measure, niqe_measure, psnr_measure
from codeprior.metrics.results import Results

METRICS = {
    "psnr": lambda images: psnr(images, images),
    "ssim": lambda images: ssim(images, images),
    "niqe": lambda images: niqe(images, block=8),
    "perceptual_distance": lambda images: perceptual_distance(images, images, trunk=lambda x: [x]),
    "score": lambda images: score([psnr_measure()], {"mine": images}, images),
}


def _levels(seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (3, 3, 32, 32), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_signed_images_levels_as_floats_and_nan_are_refused_by_picture(metric):
    images = _levels() / 255
    for spoil, text in (
        (lambda x: x * 2 - 1, r"picture 1 of .*expected unit floats in \[0, 1\], got values from -.*to_unit"),
        (lambda x: x * 255, r"picture 1 of .*got values from 0 to 2.*8-bit levels as uint8"),
        (lambda x: torch.where(x > 0.5, torch.nan, x), r"picture 1 of .*holds values that are not numbers \(NaN\)"),
    ):
        spoilt = images.clone()
        spoilt[1] = spoil(images[1])
        with pytest.raises(ValueError, match=text):
            metric(spoilt)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_other_integers_are_refused_with_their_type(metric):
    with pytest.raises(TypeError, match=r"floats in \[0, 1\] or uint8 levels, got torch.int64"):
        metric(_levels().long())


def test_arrays_and_single_grey_images_are_refused():
    with pytest.raises(TypeError, match=r"psnr: expected restored images as a tensor b 3 H W, got ndarray"):
        psnr(np.zeros((1, 3, 16, 16)), np.zeros((1, 3, 16, 16)))
    with pytest.raises(ValueError, match=r"niqe: expected images b 3 H W, got \(1, 32, 32\); add a batch axis"):
        niqe(torch.zeros(1, 32, 32), block=8)


@pytest.mark.parametrize("metric", [psnr, ssim], ids=["psnr", "ssim"])
def test_eight_bit_levels_give_what_their_unit_images_give(metric):
    first, second = _levels(0), _levels(1)
    assert torch.equal(metric(first, second), metric(first / 255, second / 255))
    assert torch.equal(metric(first, second / 255), metric(first / 255, second / 255))


def test_rounding_beyond_the_range_is_no_reason_to_refuse():
    image = torch.tensor([0.0, 1.0]).repeat(1, 3, 16, 8) * (1 + 2e-7)
    assert psnr(image, image).isinf().all()


def test_every_value_that_is_no_number_gets_its_reason():
    other = Measure(
        name="other", higher_is_better=True, look=lambda images: torch.full((len(images),), torch.nan), compare=None,
        record=Provenance(network="none"),
    )  # fmt: skip
    results = Results(measures=[niqe_measure(), psnr_measure(), other])
    picture = torch.rand(1, 3, 192, 192)
    for name, batch in {"flat": torch.full_like(picture, 0.5), "rich": picture}.items():
        results.add([name], score(results.measures, {"mine": batch}, batch))
    assert results.missing["mine"] == {
        "flat": "NIQE: fewer than two blocks of the picture hold any detail; other: gave no number",
        "rich": "other: gave no number",
    }
    assert results.column("mine", "PSNR") == [math.inf, math.inf]
    assert "flat,,inf,,NIQE: fewer" in results.as_csv()

"""Presets against the table of the published values, and the distributions that they draw."""

import json
import math

import numpy as np
import pytest
import torch
from scipy import stats

from codeprior.degradations import (
    Chain,
    GaussianBlur,
    GaussianNoise,
    Jpeg,
    KernelMix,
    MotionBlur,
    Pair,
    Resize,
    about_preset,
    codeformer_pair,
    preset,
    preset_names,
)
from tests.shared import shared_path

pytestmark = pytest.mark.filterwarnings("ignore:preset")

TABLE = {
    "gpen_code": "gpen-code",
    "gfpgan_v1": "gfpgan",
    "vqfr_v1": "vqfr-v1",
    "vqfr_v2": "vqfr-v2",
    "codeformer_large": "codeformer-II",
    "codeformer_small": "codeformer-III-small",
}


def steps(name: str) -> dict[str, dict]:
    table = json.loads(shared_path("specs/degradation_presets.json").read_text(encoding="utf-8"))
    return {step["op"]: step for step in table[name]["order"]}


@pytest.mark.parametrize("entry", TABLE)
def test_ranges_are_those_of_the_table(entry):
    told, chain = steps(entry), preset(TABLE[entry])
    assert isinstance(chain, Chain)
    blur, resize, noise, jpeg = chain.ops[:4]
    assert isinstance(blur, GaussianBlur) and isinstance(resize, Resize)
    assert isinstance(noise, GaussianNoise) and isinstance(jpeg, Jpeg)
    span = lambda step: (step["low"], step["high"])
    assert blur.size == (told["blur"]["kernel_size"],)
    assert blur.sigma == span(told["blur"]["sigma"]) and blur.isotropic == told["blur"]["probs"][0]
    assert resize.factor == span(told["downsample"]["factor"])
    assert noise.sigma == span(told["gaussian_noise"]["sigma_255"])
    assert jpeg.quality == span(told["jpeg"]["quality"])
    assert (jpeg.cast == "floor") == ("int (truncation)" in told["jpeg"]["quality_cast"])
    assert about_preset(TABLE[entry]).status == "exact"


def test_every_preset_cites_a_source_and_partial_ones_say_what_was_chosen():
    assert {"daefr", "daefr-codebook-lq", "daefr-association", "codeformer-I", "codeformer-II", "realesrgan"} <= set(
        preset_names()
    )
    for name in preset_names():
        about = about_preset(name)
        assert about.source
        assert about.status == ("partial" if about.chosen else "exact")
        if about.status == "partial":
            with pytest.warns(UserWarning, match=f"preset '{name.replace('+', '.')}' is partial"):
                preset(name)
    for name in ("gpen-paper", "lcqs-mild", "lcqs-moderate", "lcqs-severe"):
        assert about_preset(name).status == "partial"
    with pytest.raises(ValueError, match="about_preset: expected one of .*vqfr-v2; got 'nope'"):
        about_preset("nope")


def test_codeformers_pair_degrades_one_image_twice():
    pair = codeformer_pair()
    assert isinstance(pair, Pair)
    first, second = pair(torch.rand(3, 64, 64), generator=torch.Generator().manual_seed(0))
    assert isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor)
    assert first.shape == second.shape == (3, 64, 64) and not torch.equal(first, second)


COUNT = 100_000


@pytest.fixture(scope="module")
def sampled():
    kept = {}

    def values(name: str) -> dict[str, np.ndarray]:
        if name not in kept:
            drawn = preset(name).sample((COUNT, 512, 512), torch.Generator().manual_seed(0))
            kept[name] = {path: value.numpy() for path, value in drawn.values.items()}
        return kept[name]

    return values


def uniform(values: np.ndarray, low: float, high: float) -> bool:
    return stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 0.01


@pytest.mark.parametrize(
    ("name", "sizes", "sigma", "factor", "noise", "quality"),
    [
        ("daefr", (39, 41), (0.1, 15), (0.8, 30), (0, 20), (30, 100)),
        ("daefr-codebook-lq", (39, 41), (0.1, 10), (0.8, 8), (0, 20), (60, 100)),
        ("codeformer-II", (41,), (1, 15), (4, 30), (0, 20), (30, 80)),
        ("vqfr-v2", (41,), (1, 15), (1, 30), (0, 20), (30, 90)),
    ],
)
def test_marginals(sampled, name, sizes, sigma, factor, noise, quality):
    values = sampled(name)
    across, along = values["gaussian_blur.sigma"].T
    stretched = across != along
    assert uniform(across, *sigma) and uniform(along[stretched], *sigma)
    assert uniform(values["gaussian_blur.angle"][stretched], -math.pi, math.pi)
    assert stats.binomtest(int(stretched.sum()), COUNT, 0.5).pvalue > 0.001
    for size in sizes:
        drawn = int((values["gaussian_blur.size"] == size).sum())
        assert stats.binomtest(drawn, COUNT, 1 / len(sizes)).pvalue > 0.001 or len(sizes) == 1
    assert uniform(values["gaussian_noise.sigma"], *noise)
    # whole numbers: chances from the ranges of real numbers that become each
    side = values["resize.size"][:, 0]
    edges = np.clip(512 / np.arange(side.min(), side.max() + 2), *factor)
    _agrees(side, side.min(), (edges[:-1] - edges[1:]) / (factor[1] - factor[0]))
    drawn = values["jpeg.quality"].astype(int)
    shift = 0.0 if name.startswith("codeformer") else 0.5
    borders = np.clip(np.arange(quality[0], quality[1] + 2) - shift, *quality)
    _agrees(drawn, quality[0], np.diff(borders) / (quality[1] - quality[0]))
    # independent of one another
    assert stats.pearsonr(across, values["gaussian_noise.sigma"]).pvalue > 0.001
    assert stats.pearsonr(drawn, values["gaussian_noise.sigma"]).pvalue > 0.001


def _agrees(drawn: np.ndarray, first: int, chances: np.ndarray) -> None:
    """A χ² test, values that are expected less than ten times put together."""
    counts = np.bincount(drawn - first, minlength=len(chances))[: len(chances)]
    assert counts.sum() == len(drawn)
    often = chances * len(drawn) >= 10
    observed, expected = counts[often], chances[often] * len(drawn)
    assert counts[chances == 0].sum() == 0
    if chances[~often].sum() > 0:
        rest = len(drawn) - expected.sum()
        observed, expected = np.append(observed, counts[~often].sum()), np.append(expected, rest)
    expected = expected * observed.sum() / expected.sum()
    assert stats.chisquare(observed, expected).pvalue > 0.001


def test_mixtures_of_the_second_order_chain(sampled):
    values = sampled("realesrgan")
    kinds = np.bincount(values["kernel_mix.kind"], minlength=4)[:4] / COUNT
    # Gaussian, generalised, plateau, sinc; three standard deviations of a count
    np.testing.assert_allclose(kinds, [0.63, 0.135, 0.135, 0.1], atol=3 * math.sqrt(0.25 / COUNT))
    beta = values["kernel_mix.shape"][values["kernel_mix.kind"] == 2]
    # half from (low, 1), which is 1, and half from (1, 2)
    assert uniform(beta[beta > 1], 1, 2) and abs((beta == 1).mean() - 0.5) < 0.02
    beta = values["kernel_mix.shape"][values["kernel_mix.kind"] == 1]
    assert uniform(beta[beta < 1], 0.5, 1) and uniform(beta[beta > 1], 1, 4)
    kept = (values["rescale.size"] == 512).all(1).mean()
    grown = (values["rescale.size"] > 512).any(1).mean()
    np.testing.assert_allclose([grown, kept], [0.2, 0.1], atol=0.005)


def test_colour_coins(sampled):
    values = sampled("gfpgan")
    for path, chance in {"maybe.done": 0.3, "maybe_2.done": 0.01, "maybe_3.done": 0.3}.items():
        assert stats.binomtest(int(values[path].sum()), COUNT, chance).pvalue > 0.001
    orders, counts = np.unique(values["maybe_3.colour_jitter.order"], axis=0, return_counts=True)
    assert len(orders) == 24 and stats.chisquare(counts).pvalue > 0.001
    factors = values["maybe_3.colour_jitter.factors"]
    for column, span in enumerate([(0.5, 1.5), (0.5, 1.5), (0, 1.5), (-0.1, 0.1)]):
        assert uniform(factors[:, column], *span)
    shift = values["maybe.channel_shift.shift"]
    assert uniform(shift[:, 0], -20, 20) and abs(np.corrcoef(shift.T)[0, 1]) < 0.02


def test_a_shuffle_draws_all_orders_and_keeps_what_must_come_before(sampled):
    order = sampled("bsrgan")["shuffle.order"]
    place = np.argsort(order, 1)
    assert (place[:, 2] < place[:, 3]).all()
    free = np.bincount(place[:, 4], minlength=6)
    assert stats.chisquare(free).pvalue > 0.001


def test_a_mix_draws_its_own_kinds():
    mix = KernelMix(blurs=(MotionBlur(length=(7, 7)), GaussianBlur()), weights=(1, 0))
    kinds = mix.sample((50, 8, 8), torch.Generator().manual_seed(0)).values["kind"]
    assert kinds.unique().tolist() == [4]

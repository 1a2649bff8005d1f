import csv
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from codeprior.metrics import Results, compare, psnr_measure, summarise, write_results
from codeprior.metrics import score as score_batch


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_the_interval_agrees_with_scipys_bootstrap():
    values = np.random.default_rng(0).gamma(2, size=150)
    found = summarise(values, _generator(), resamples=20_000)
    expected = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, rng=1).confidence_interval
    # two Monte-Carlo quantiles; their own error is about 1 % of the interval's width
    width = expected.high - expected.low
    assert found.low == pytest.approx(expected.low, abs=0.04 * width)
    assert found.high == pytest.approx(expected.high, abs=0.04 * width)
    assert found.mean == pytest.approx(values.mean(), rel=1e-12)
    assert found.standard_error == pytest.approx(stats.sem(values), rel=1e-12)


def test_pictures_of_one_person_do_not_make_the_mean_surer():
    people = np.random.default_rng(0).normal(size=60)
    once = summarise(people, _generator())
    thrice = summarise(np.repeat(people, 3), _generator(), groups=[f"{i:02}" for i in range(60) for _ in range(3)])
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high), rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=1, max_size=20), st.integers(0, 5))
def test_missing_values_change_nothing(values: list[float], gaps: int):
    whole, gapped = summarise(values, _generator()), summarise([*values, *[math.nan] * gaps], _generator())
    assert repr(whole) == repr(gapped)
    assert gapped.count == len(values)


def test_a_comparison_counts_wins_in_the_better_direction():
    found = compare([1, 2, 3, 4], [0, 2, 5, math.nan], _generator(), higher_is_better=True)
    assert (found.difference, found.wins, found.count) == (pytest.approx(-1 / 3), 0.5, 3)
    assert compare([1, 2], [2, 3], _generator(), higher_is_better=False).wins == 1
    perfect = compare([math.inf, 1], [math.inf, 1], _generator(), higher_is_better=True)
    assert (perfect.difference, perfect.wins) == (0, 0.5)


def test_nothing_to_summarise_is_refused():
    with pytest.raises(ValueError, match="a value for at least one image"):
        summarise([math.nan], _generator())
    with pytest.raises(ValueError, match="values of the same images, got 1 and 2"):
        compare([1], [1, 2], _generator(), higher_is_better=True)
    with pytest.raises(ValueError, match="one group per image, got 1 for 2"):
        summarise([1, 2], _generator(), groups=["a"])


def test_files_hold_the_values_and_name_what_is_missing(tmp_path):
    clean = torch.rand(2, 3, 8, 8, generator=_generator())
    results = Results(measures=[psnr_measure()], settings={"seed": 0})
    results.add(["a", "b"], score_batch([psnr_measure()], {"input": clean * 0.9, "copy": clean}, clean))
    results.missing["copy"] = {"c": "is damaged"}
    write_results(tmp_path, results, baselines=["input"])
    rows = list(csv.DictReader((tmp_path / "scores.csv").read_text().splitlines()))
    assert [(row["method"], row["image"], row["missing"]) for row in rows[2:]] == [
        ("copy", "a", ""), ("copy", "b", ""), ("copy", "c", "is damaged"),
    ]  # fmt: skip
    assert rows[4]["PSNR"] == ""
    assert float(rows[0]["PSNR"]) == results.values["input"]["a"]["PSNR"]
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["summaries"]["copy"]["PSNR"]["mean"] == "inf"
    assert found["comparisons"]["input"]["copy"]["PSNR"]["wins"] == 1
    assert found["measures"]["PSNR"]["colours"] == "rgb"
    assert "Missing of copy, in no mean: c (is damaged)" in (tmp_path / "results.md").read_text()
    with pytest.raises(ValueError, match="a method of input, copy, got 'other'"):
        results.comparisons("other")

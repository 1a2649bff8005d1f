"""What a benchmark says of itself: the spread of its times, and when the machine was too busy to judge by them."""

import json
from functools import partial

import pytest
import torch

from benchmarks import _measure, recipes
from benchmarks._measure import Given, report, rows_of, why_busy
from benchmarks.page import page
from codeprior.codebooks import Codebook
from codeprior.fusion import TextureBranch
from codeprior.recipes.vqfr.model import VQFRv1


def floor(op: str, quantiles: list[float]) -> dict:
    return {"op": op, "n": 1, "impl": "torch.mm", "floor": "torch.mm", "ms": quantiles[1], "ms_quantiles": quantiles}


STEADY = [floor("search", [0.98, 1.0, 1.02]), floor("forward", [1.9, 2.0, 2.1])]
UNSTEADY = [floor("search", [0.9, 1.0, 1.3]), floor("forward", [1.5, 2.0, 2.6]), floor("averages", [1, 1, 1])]
"""The median counts: one case of three that is steady does not make the others so."""


@pytest.mark.parametrize(("load", "processors"), [(1.0, 1), (1.4, 2), (0.2, 2), (4.0, 8)])
def test_a_quiet_machine_is_judged_by(load, processors):
    assert why_busy(STEADY, load=load, processors=processors) is None


def test_times_of_the_floor_that_differ_are_named():
    assert why_busy(UNSTEADY, load=1.0, processors=2) == "the floor's own times differ by 40 %, 15 % is the most"
    # those of a contestant do not count: they may be its own
    rows = [*STEADY, floor("search", [1.0, 2.0, 9.0]) | {"impl": "codeprior"}]
    assert why_busy(rows, load=1.0, processors=2) is None


@pytest.mark.parametrize(("load", "processors"), [(1.6, 1), (2.1, 2), (5.0, 8)])
def test_other_work_on_the_machine_is_named(load, processors):
    expected = f"{load} processes ran or waited for {processors} processors"
    assert why_busy(STEADY, load=load, processors=processors) == expected
    assert why_busy(UNSTEADY, load=load, processors=processors).endswith(f"; {expected}")


def test_the_spread_is_printed_and_the_verdict_is_kept(monkeypatch, tmp_path, capsys):
    times = {"torch.mm": [0.5, 1.0, 1.5], "codeprior": [1.8, 2.0, 2.2]}
    monkeypatch.setattr(_measure, "interleaved", lambda providers, seconds: times)
    monkeypatch.setattr(_measure, "peak_bytes", lambda run: None)
    monkeypatch.setattr(_measure.os, "getloadavg", lambda: (9.0, 9.0, 9.0))
    monkeypatch.setattr(_measure.os, "cpu_count", lambda: 2)
    rows = list(rows_of("search", {"n": 4}, dict.fromkeys(times, lambda: None), floor="torch.mm", seconds=1))
    assert [row["spread"] for row in rows] == [1.0, 0.2]
    printed = capsys.readouterr().out.splitlines()
    assert "1.00 ms ± 50 %" in printed[0] and "2.00 ms ± 10 %" in printed[1]
    folder = tmp_path / "results" / "cpu"
    report(rows, Given(True, folder / "nearest_code.json", None), missing=[])
    said = "the floor's own times differ by 100 %, 15 % is the most; 9.0 processes ran or waited for 2 processors"
    assert f"TOO BUSY TO JUDGE: {said}. Compare nothing" in capsys.readouterr().out
    assert all(row["busy"] == said for row in json.loads((folder / "nearest_code.json").read_text()))
    assert f"**Too busy to judge**: {said}." in page(tmp_path / "results")


@pytest.mark.parametrize("name", ["codeformer", "vqfr_v1", "vqfr_v2", "restoreformer"])
def test_the_plain_forward_of_a_family_gives_what_its_model_gives(name, monkeypatch):
    """At small sizes, where the codes of both are the same."""
    pytest.importorskip("torchvision")
    torch.manual_seed(0)
    small = {"channels": 8, "multipliers": (1, 2), "groups": 4, "dim": 8, "codes": 6}
    for network, more in (
        ("CodeFormerNetwork", {"width": 8, "layers": 1, "heads": 2, "hidden": 8, "tap_strides": (2, 1)}),
        ("VQFRNetwork", {"condition_channels": 2}),
        ("RestoreFormerNetwork", {"heads": 2}),
    ):
        monkeypatch.setattr(recipes, network, partial(getattr(recipes, network), **small, **more))
    if name == "vqfr_v1":
        sizes = {"channels": 8, "multipliers": (1, 2), "groups": 4}
        for part in ("VQGANEncoder", "VQGANDecoder"):
            built = getattr(recipes, part)
            monkeypatch.setattr(recipes, part, lambda built=built, **given: built(8, **{**given, **sizes}))
        monkeypatch.setattr(recipes, "Codebook", lambda size, dim: Codebook(6, 8))
        monkeypatch.setattr(recipes, "TextureBranch", partial(TextureBranch, groups=4, condition_channels=2))
        monkeypatch.setattr(recipes.vqfr, "VQFRv1", partial(VQFRv1, groups=4))
    forwards = recipes.MODELS[name]("cpu", 16)
    image = torch.rand(1, 3, 16, 16) * 2 - 1
    with torch.inference_mode():
        torch.testing.assert_close(forwards["codeprior"](image), forwards["plain"](image), atol=2e-5, rtol=1e-4)


def test_a_forwards_rows_hold_the_median_the_peak_and_how_far_its_picture_is_from_the_plain_one():
    forwards = {"plain": lambda image: image + 0, "codeprior": lambda image: (image + 0.2).clamp(-1, 1)}
    plain, ours = recipes.forward_rows("codeformer", forwards, "cpu", pixels=16, quick=True)
    assert (plain["impl"], plain["speedup"], plain["psnr"]) == ("plain", 1.0, 200.0)
    assert ours["speedup"] == round(plain["ms"] / ours["ms"], 3) and ours["pixels"] == 16
    assert 20 < ours["psnr"] < 21  # a tenth of the range, less where it is clamped
    assert {"peak_bytes", "ms_quantiles"} <= plain.keys() & ours.keys()


@pytest.mark.parametrize("warm", [True, False])
def test_what_has_run_already_is_not_run_once_more(warm):
    runs = []
    _measure.interleaved({"one": lambda: runs.append(1)}, seconds=60, rounds=3, warm=warm)
    assert len(runs) == 3 + (not warm)

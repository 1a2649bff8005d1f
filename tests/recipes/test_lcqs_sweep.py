"""LCQS by its level: what is measured, what is written, and what is refused before the work."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

import codeprior
from codeprior.recipes.lcqs import sweep
from codeprior.recipes.lcqs.judging import Row, identity_lost, rises, separability
from codeprior.recipes.lcqs.model import fresh
from tests.recipes.test_lcqs import SIZE, TINY
from tests.torture.stages import stream


@pytest.fixture(autouse=True)
def _partial_presets(recwarn):
    """The presets of LCQS say that their source leaves things open; that is known here."""


def test_qualities_that_a_line_divides_are_separable_and_noise_is_not():
    draw = torch.Generator().manual_seed(0)
    styles, people = torch.randn(60, 3, 4, generator=draw), [str(number // 2) for number in range(60)]
    assert separability(styles + 2, styles - 2, people) == [1.0] * 5
    other = torch.randn(60, 3, 4, generator=draw)
    assert 0.3 < sum(separability(styles, other, people)) / 5 < 0.7


def test_a_sweep_says_whether_quality_rises_and_what_identity_it_costs():
    rows = [Row(0.0, 9.0, 5.0, 0.5), Row(0.5, 7.0, 5.0, 0.55), Row(1.0, 6.0, 5.0, 0.52), Row(1.25, 8.0, 5.0, 0.9)]
    assert rises(rows) and identity_lost(rows) == pytest.approx(0.05)
    assert not rises([rows[0], rows[2], rows[1]])


def test_a_sweep_writes_figures_tables_and_a_picture(tmp_path: Path, capsys):
    for name in ("faces", "clean"):
        stream(tmp_path / name)
    codeprior.save(tmp_path / "lcqs.safetensors", fresh(TINY))
    words = ["--weights", str(tmp_path / "lcqs.safetensors"), "--faces", str(tmp_path / "faces"), "--clean",
             str(tmp_path / "clean"), "--out", str(tmp_path / "out"), "--preset", "lcqs-mild", "--levels", "0", "1",
             "--limit", "6", "--degradation-size", "64"]  # fmt: skip
    assert sweep.main(words) == 0
    found = json.loads((tmp_path / "out/sweep.json").read_text())
    assert found["faces"] == found["people"] == 6
    (preset,) = found["presets"].values()
    assert [row["level"] for row in preset["levels"]] == [0.0, 1.0] and len(preset["separable"]) == 5
    assert "| lcqs-mild | input |" in (tmp_path / "out/sweep.md").read_text()
    assert Image.open(tmp_path / "out/sweep.png").size == (2 * 4 * SIZE, 2 * 3 * SIZE)
    assert "| lcqs-mild | input |" in capsys.readouterr().out
    assert sweep.main([*words[:1], str(tmp_path / "none.safetensors"), *words[2:]]) == 2
    for wrong, reason in (
        (["--levels", "0.5", "1"], "--levels: expected them ascending, the first one 0, which the others are compared"),
        (["--levels", "0", "1", "0.5"], "the first one 0, which the others are compared with; got 0 1 0.5."),
        (["--levels", "0", "2"], "option level: expected a number from 0 to 1.5, got 2."),
        (
            ["--limit", "4"],
            "expected test faces of 5 people or more, because separability is measured by 5 folds, got 4",
        ),
    ):
        assert sweep.main([*words, *wrong]) == 2
        assert reason in capsys.readouterr().err

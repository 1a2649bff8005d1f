"""The ablation runner: four variants, every seed, a table whose errors are right; started again, it goes on."""

import json
import math

import pytest

from codeprior.recipes.daefr import ablate
from codeprior.recipes.daefr.recipes import (
    RECIPES,
    AssociationRecipe,
    CodebookRecipe,
    RestorationRecipe,
    invariant,
    paper,
)
from tests.training.toy import write_faces


def test_the_table_has_means_errors_and_paired_differences():
    shifts = (0, 0.02, 0.1)
    results = {
        name: [{"accuracy": 0.1 * number + shift, "code": 1.0, "psnr": 20.0} for shift in shifts]
        for number, name in enumerate(ablate.VARIANTS)
    }
    lines = ablate.table(results).splitlines()
    # 0, 0.02 and 0.1: mean 0.04, deviation sqrt(0.0056 / 2), error that over sqrt(3)
    error = math.sqrt((0.04**2 + 0.02**2 + 0.06**2) / 2 / 3)
    assert f"| {0.04:.4f} ± {error:.4f} | {-0.3:.4f} ± {0:.4f} |" in lines[2]
    assert lines[5].split(" | ")[2] == ""
    assert "over 3 seeds" in lines[-1]
    one = ablate.table({name: rows[:1] for name, rows in results.items()})
    assert "±" not in one.splitlines()[2] and "(none with one)" in one


def test_every_variant_is_trained_and_judged_and_a_second_call_trains_nothing(tmp_path, monkeypatch, capsys):
    faces, other = write_faces(tmp_path / "faces", count=4, size=32), write_faces(tmp_path / "other", count=2, size=32)
    words = [
        "--faces", str(faces), "--held-out", str(other), "--out", str(tmp_path / "out"), "--network", "tiny", "--batch",
        "2", "--codebook-steps", "2", "--association-steps", "2", "--restoration-steps", "2", "--seeds", "0", "1",
        "--degradation-size", "32", "--perceptual-weights", "random", "--quiet",
    ]  # fmt: skip
    assert ablate.main(words) == 0
    printed = capsys.readouterr().out
    assert all(variant.title in printed for variant in ablate.VARIANTS.values())
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {name: len(rows) for name, rows in results.items()} == dict.fromkeys(ablate.VARIANTS, 2)
    # variants differ, and so do seeds
    assert len({row["code"] for rows in results.values() for row in rows}) == 8
    assert all(0 <= row["accuracy"] <= 1 and row["code"] > 0 for rows in results.values() for row in rows)
    for stage in (ablate.RestorationStage, ablate.AssociationStage, ablate.CodebookStage):
        monkeypatch.setattr(stage, "update", lambda *_: pytest.fail("it trained again"))
    assert ablate.main(words) == 0
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == results


def test_bad_input_is_said_in_a_line(tmp_path, capsys):
    words = ["--faces", str(tmp_path), "--held-out", str(tmp_path), "--out", str(tmp_path / "out")]
    assert ablate.main(words) == 2
    assert "ablate: open_images: no pictures in" in capsys.readouterr().err


@pytest.mark.parametrize("name", RECIPES)
def test_presets_change_what_is_local_and_nothing_else(name):
    recipe = RECIPES[name]()
    local, everywhere = paper(recipe), invariant(recipe)
    if isinstance(recipe, RestorationRecipe):
        assert local == everywhere == recipe
        return
    assert isinstance(local, CodebookRecipe) and isinstance(everywhere, CodebookRecipe)
    fields = ("adaptive", "discriminator_norm", "generator_pass")
    assert [getattr(local, field) for field in fields] == ["local", "batch", "sequential"]
    assert [getattr(everywhere, field) for field in fields] == ["global", "group", "shared"]
    if isinstance(recipe, AssociationRecipe):
        assert (getattr(local, "negatives"), getattr(everywhere, "negatives")) == ("local", "global")  # noqa: B009
    for changed in (local, everywhere):
        same = {field for field in recipe.__slots__ if getattr(recipe, field) == getattr(changed, field)}
        assert set(recipe.__slots__) - same <= {*fields, "negatives"}

"""The ablation runner: four variants, every seed, a table whose errors are right; started again, it goes on."""

import json
import math
import shutil

import pytest
import torch

from codeprior import weights
from codeprior.recipes.daefr import ablate
from codeprior.recipes.daefr.settings import (
    RECIPES,
    AssociationRecipe,
    CodebookRecipe,
    FidelityRecipe,
    RestorationRecipe,
    invariant,
    paper,
)
from codeprior.stages import CodeExam
from codeprior.training import ImageFolder
from tests.torture import stages
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
    # one cell was not judged when the run was cut off: it alone is trained again, to the same figures
    journal = tmp_path / "out" / "cells.jsonl"
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join(lines[:-1]) + "\n")
    shutil.rmtree(tmp_path / "out" / "full-1")
    count, update = [], ablate.RestorationStage.update
    monkeypatch.setattr(ablate.RestorationStage, "update", lambda *given: count.append(1) or update(*given))
    for stage in (ablate.AssociationStage, ablate.CodebookStage):
        monkeypatch.setattr(stage, "update", lambda *_: pytest.fail("it trained again"))
    assert ablate.main(words) == 0
    assert len(count) == 2 and json.loads((tmp_path / "out" / "results.json").read_text()) == results
    # whole: nothing is even built
    monkeypatch.setattr(ablate, "RestorationStage", lambda *_, **__: pytest.fail("it built a stage again"))
    assert ablate.main(words) == 0
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == results
    capsys.readouterr()
    assert ablate.main([*words, "--restoration-steps", "3"]) == 2
    assert "holds an ablation with another restoration_steps; give another folder" in capsys.readouterr().err


def test_every_variant_gets_the_networks_that_it_is_named_for(tmp_path, monkeypatch):
    faces = write_faces(tmp_path / "faces", count=2, size=32)
    words = [
        "--faces", str(faces), "--held-out", str(faces), "--out", str(tmp_path / "out"), "--network", "tiny", "--batch",
        "2", "--codebook-steps", "1", "--association-steps", "1", "--restoration-steps", "1", "--seeds", "3",
        "--degradation-size", "32", "--perceptual-weights", "random", "--quiet",
    ]  # fmt: skip
    built, make = [], ablate.RestorationStage

    def kept(recipe, **networks):
        built.append((recipe, networks))
        return make(recipe, **networks)

    monkeypatch.setattr(ablate, "RestorationStage", kept)
    assert ablate.main(words) == 0
    found = {
        name: (recipe.branches, recipe.fusion, *(_same(networks[key], tmp_path / "out" / path) for key, path in FROM))
        for name, (recipe, networks) in zip(ablate.VARIANTS, built, strict=True)
    }
    assert {recipe.steps for recipe, _ in built} == {1} and {recipe.seed for recipe, _ in built} == {3}
    assert found == {
        "single": ("single", "attention", True, False),
        "unassociated": ("dual", "attention", True, False),
        "linear": ("dual", "linear", False, True),
        "full": ("dual", "attention", False, True),
    }


FROM = (("hq", "hq_codebook/vqgan.safetensors"), ("lq", "association-3/lq_vqgan.safetensors"))


def _same(network, path):
    held = weights.load(path).encoder.state_dict()
    return all(torch.equal(value, held[name]) for name, value in network.encoder.state_dict().items())


@pytest.mark.parametrize("count", [6, 7, 34])
def test_the_exam_asks_every_held_out_face_once(tmp_path, count):
    stage = stages.stage("restoration")
    faces = ImageFolder(write_faces(tmp_path / "faces", count=count, size=32), size=32)
    exam = CodeExam(stage, faces)
    whole = torch.cat([pair.clean for pair in exam.pairs])
    truth = stage.faces.clean(torch.stack([faces.image(number) for number in range(count)]))
    assert sorted(map(_sum, whole)) == sorted(map(_sum, truth))
    figures = exam.judge(stage)
    with torch.no_grad():
        pairs = [(clean[None], bad[None]) for pair in exam.pairs for clean, bad in zip(*pair, strict=True)]
        rows = [stage.losses(bad, stage.teacher.encode(clean)) for clean, bad in pairs]
    # float32 sums in another order
    assert figures["code"] == pytest.approx(sum(float(row["code"]) for row in rows) / count, rel=1e-5)
    assert figures["accuracy"] == pytest.approx(sum(float(row["accuracy"]) for row in rows) / count, abs=1e-3)


def _sum(image):
    return float(image.double().sum())


def test_bad_input_is_said_in_a_line(tmp_path, capsys):
    words = ["--faces", str(tmp_path), "--held-out", str(tmp_path), "--out", str(tmp_path / "out")]
    assert ablate.main(words) == 2
    assert "ablate: open_images: no pictures in" in capsys.readouterr().err


@pytest.mark.parametrize("name", RECIPES)
def test_presets_change_what_is_local_and_nothing_else(name):
    recipe = RECIPES[name]()
    local, everywhere = paper(recipe), invariant(recipe)
    if isinstance(recipe, (RestorationRecipe, FidelityRecipe)):
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

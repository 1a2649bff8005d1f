"""`codeprior compare` as a user calls it, on small faces and untrained networks."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import codeprior as cp
from codeprior.__main__ import main
from codeprior.evaluation import methods
from codeprior.metrics import psnr
from codeprior.metrics.provenance import checksum
from codeprior.recipes.daefr import evaluate, model, settings
from tests.recipes.coarse import coarse_faces


@pytest.fixture
def faces(tmp_path) -> Path:
    return coarse_faces(tmp_path / "faces", "abcde", cells=6, side=48)


def _save(folder: Path, seed: int = 0, size: int = 32) -> None:
    network = settings.Network(
        size=size, dim=8, codes=16, channels=8, multipliers=(1, 2), encoder_blocks=1, decoder_blocks=1, groups=4,
        fusion_groups=4, fusion_heads=2, width=16, layers=1, heads=2, hidden=16,
    )  # fmt: skip
    torch.manual_seed(seed)
    teacher = model.vqgan(network)
    recipe = settings.RestorationRecipe(network=network, branches="single")
    cp.save(folder / "single.safetensors", model.restorer(recipe, teacher.prior()))
    cp.save(folder / "teacher.safetensors", teacher)


def test_the_command_measures_trained_weights(faces, tmp_path, capsys):
    _save(tmp_path)
    out, trained = tmp_path / "out", tmp_path / "single.safetensors"
    words = f"--faces {faces} --out {out} --limit 3 --batch 2 --columns psnr,ssim --pictures --report-count 1".split()
    words += f"--preset daefr --preset clean --teacher {tmp_path / 'teacher.safetensors'}".split()
    words += ["--method", f"single={trained}"]
    assert main(["compare", *words]) == 0
    said = capsys.readouterr().out
    assert "| single |" in said and "codes of single: accuracy " in said
    for preset in ("daefr", "clean"):
        folder = out / preset
        found = json.loads((folder / "results.json").read_text())
        assert found["settings"]["methods"]["single"]["sha256"] == checksum(trained)
        assert found["settings"]["set_sha256"] == checksum(folder / "set.json")
        assert found["summaries"]["single"]["PSNR"]["count"] == 3
        assert 0 <= found["settings"]["codes"]["single"]["accuracy"] <= 1
        assert 1 <= found["settings"]["codes"]["single"]["used"] <= 16
        rows = list(csv.DictReader((folder / "scores.csv").read_text().splitlines()))
        assert len(rows) == 3 * 3
        # the pictures kept are the ones measured: 8-bit PSNR is the same from the files
        kept, clean = (_unit(folder / "pictures" / which / "a.png") for which in ("single", "clean"))
        row = next(row for row in rows if (row["method"], row["image"]) == ("single", "a"))
        assert float(row["PSNR"]) == pytest.approx(float(psnr(kept, clean)), rel=1e-9)
        assert "report/000_best.jpg" in (folder / "report.html").read_text()
        assert (folder / "pictures" / "pairs.csv").read_text() == "first,second,same\n"
    table = (out / "table.md").read_text()
    assert table.count("| reconstruction by the teacher |") == 1
    assert "| daefr | single |" in table and "| clean | single |" in table


def test_models_of_different_sizes_are_compared_at_the_size_that_is_given(faces, tmp_path, capsys):
    _save(tmp_path, size=32)
    (tmp_path / "other").mkdir()
    _save(tmp_path / "other", size=16)
    words = f"--faces {faces} --limit 2 --columns psnr --report-count 1 --out {tmp_path / 'out'}".split()
    words += ["--method", f"one={tmp_path / 'single.safetensors'}"]
    words += ["--method", f"two={tmp_path / 'other' / 'single.safetensors'}"]
    assert main(["compare", *words]) == 2
    assert "--size to resize all to it; got models of different sizes, {'one': 32," in capsys.readouterr().err
    assert main(["compare", *words, "--size", "24", "--pictures"]) == 0
    folder = tmp_path / "out" / "daefr"
    found = json.loads((folder / "results.json").read_text())["settings"]
    assert (found["size"], found["methods"]["one"]["size"], found["methods"]["two"]["size"]) == (24, 32, 16)
    assert {Image.open(path).size for path in folder.glob("pictures/*/*.png")} == {(24, 24)}


def test_what_is_finished_is_not_measured_again_unless_the_weights_change(faces, tmp_path, monkeypatch):
    _save(tmp_path)
    words = f"--faces {faces} --out {tmp_path / 'out'} --limit 2 --columns psnr --report-count 1".split()
    words += ["--method", f"single={tmp_path / 'single.safetensors'}"]
    assert main(["compare", *words]) == 0
    ran = []
    restore = methods._in_parts
    monkeypatch.setattr(methods, "_in_parts", lambda *given: ran.append(1) or restore(*given))
    before = (tmp_path / "out" / "daefr" / "scores.csv").read_text()
    assert main(["compare", *words]) == 0
    assert not ran
    assert (tmp_path / "out" / "daefr" / "scores.csv").read_text() == before
    _save(tmp_path, seed=1)
    assert main(["compare", *words]) == 0
    assert ran
    assert (tmp_path / "out" / "daefr" / "scores.csv").read_text() != before
    ran.clear()
    assert main(["compare", *words, "--fresh"]) == 0
    assert ran


def test_named_tests_come_from_indexes_and_have_folders_of_their_own(faces, tmp_path, capsys):
    (faces / "index.csv").write_text(
        "id,split,source,identity,file\n"
        + "".join(f"{name},test,{'one' if name in 'ab' else 'two'},p{name},{name}.png\n" for name in "abcd")
    )
    out, cache = tmp_path / "out", tmp_path / "cache"
    words = f"--out {out} --cache {cache} --columns psnr --size 24 --preset clean".split()
    words += ["--test", f"first={faces / 'index.csv'}?split=test&source=one"]
    words += ["--test", f"all={faces / 'index.csv'}?split=test"]
    assert main(["compare", *words]) == 0
    assert "all, clean, 4 faces, 24 px" in capsys.readouterr().out
    rows = list(csv.DictReader((out / "first" / "clean" / "scores.csv").read_text().splitlines()))
    assert [row["image"] for row in rows] == ["a", "b"]
    assert len(list(cache.rglob("*.png"))) == 4
    assert (out / "all" / "table.md").read_text().startswith("| damage | method | PSNR (dB) ↑ | worse by 1 dB ↓ |")
    assert main(["compare", *words, "--faces", str(faces)]) == 2
    assert "expected --faces FOLDER, --index INDEX.csv, or one --test" in capsys.readouterr().err
    assert main(["compare", "--out", str(out), "--test", f"x={faces}?colour=red"]) == 2
    assert 'expected --test "NAME=INDEX.csv?split=S&source=S&class=C"' in capsys.readouterr().err


def test_faces_are_split_by_a_column_and_by_tone(tmp_path, capsys):
    _save(tmp_path)
    faces = tmp_path / "faces"
    faces.mkdir()
    lines = ["id,split,file,age"]
    for place in range(20):
        pixels = np.full((48, 48, 3), (233, 193, 166) if place % 2 else (82, 54, 46), dtype=np.uint8)
        pixels[place] += 3
        Image.fromarray(pixels).save(faces / f"f{place}.png")
        lines.append(f"f{place},test,f{place}.png,{'old' if place < 10 else 'young'}")
    (faces / "index.csv").write_text("\n".join(lines))
    words = ["--columns", "psnr", "--report-count", "1", "--preset", "clean", "--by", "age", "--by", "tone"]
    words += ["--test", f"all={faces / 'index.csv'}?split=test", "--out", str(tmp_path / "out")]
    assert main(["compare", *words, "--method", f"single={tmp_path / 'single.safetensors'}"]) == 0
    table = (tmp_path / "out" / "all" / "table.md").read_text()
    assert "By age; mean" in table and "| old (10) | clean | single |" in table and "| young (10) | clean |" in table
    assert "By tone; mean" in table and table.index("| very light (10) |") < table.index("| dark (10) |")
    capsys.readouterr()
    assert main(["compare", *words, "--by", "skin", "--overwrite"]) == 2
    assert "has no column 'skin'; it has id, split, file, age, and tone is measured" in capsys.readouterr().err


def test_a_saved_set_is_used_again(faces, tmp_path, capsys):
    words = f"--faces {faces} --columns psnr --size 24 --seed 5 --limit 2".split()
    assert main(["compare", *words, "--out", str(tmp_path / "first")]) == 0
    again = f"--faces {faces} --columns psnr --size 24 --out {tmp_path / 'second'}".split()
    again += ["--set", str(tmp_path / "first" / "daefr" / "set.json")]
    assert main(["compare", *again]) == 0
    scores = [(tmp_path / which / "daefr" / "scores.csv").read_text() for which in ("first", "second")]
    assert scores[0] == scores[1]
    assert main(["compare", *again, "--preset", "clean"]) == 2
    assert "is of the preset daefr; say --preset daefr" in capsys.readouterr().err


def test_a_wrong_call_says_what_is_wrong(tmp_path, capsys):
    assert main(["compare", "--faces", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "at least one readable face" in capsys.readouterr().err
    assert main(["compare", "--faces", str(tmp_path), "--out", str(tmp_path), "--method", "x"]) == 2
    assert 'expected --method "NAME=WEIGHTS"' in capsys.readouterr().err


def test_its_former_name_still_runs_and_gives_its_former_status(faces, tmp_path, capsys):
    out = tmp_path / "out"
    assert evaluate.main(f"--faces {faces} --out {out} --limit 1 --columns psnr --preset clean --size 32".split()) == 0
    assert (out / "table.md").exists()
    assert evaluate.main(["--faces", str(tmp_path / "none"), "--out", str(tmp_path / "other")]) == 1
    assert "at least one readable face" in capsys.readouterr().err


def _unit(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("name", ["table.md", "journal.jsonl", "clean/scores.csv", "clean/set.json"])
def test_nothing_is_replaced_that_the_command_did_not_write(name, faces, tmp_path, capsys):
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("mine")
    words = f"--faces {faces} --out {out} --limit 1 --columns psnr --preset clean --size 32 --fresh".split()
    assert main(["compare", *words]) == 2
    assert f"{name} exists already, and not from an earlier run of this command" in capsys.readouterr().err
    assert [path.name for path in out.rglob("*") if path.is_file()] == [Path(name).name]
    assert (out / name).read_text() == "mine"
    if name != "journal.jsonl":  # what is no journal is never one to go on with
        assert main(["compare", *words, "--overwrite"]) == 0

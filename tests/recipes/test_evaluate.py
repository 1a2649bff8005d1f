import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import codeprior as cp
from codeprior.metrics import Journal, psnr, psnr_measure, ssim_measure
from codeprior.metrics.provenance import checksum
from codeprior.photos.faces import match_colour
from examples import daefr
from examples.daefr import evaluate as command
from examples.daefr import model, recipes
from examples.daefr.methods import Done, load_methods
from examples.daefr.test_set import TestSet, build
from tests.recipes.coarse import coarse_faces


@pytest.fixture
def faces(tmp_path) -> Path:
    return coarse_faces(tmp_path / "faces", "abcde", cells=6, side=48)


def _small(faces: Path, **changes) -> TestSet:
    return build(faces, **{"preset": "daefr", "seed": 3, "degradation_size": 96} | changes)


def test_a_set_read_back_gives_the_same_pixels(faces, tmp_path):
    made = _small(faces)
    made.save(tmp_path / "set.json")
    first, second = (
        list(made.batches(faces, size=24)),
        list(TestSet.load(tmp_path / "set.json").batches(faces, size=24)),
    )
    assert torch.equal(first[0].degraded, second[0].degraded)
    assert torch.equal(first[0].clean, second[0].clean)
    assert first[0].faces == second[0].faces


def test_truth_and_input_follow_the_rule_of_training(faces):
    made = _small(faces)
    pairs = next(made.batches(faces, size=24, batch=2))
    pixels = torch.from_numpy(np.stack([np.asarray(Image.open(faces / f"{name}.png")) for name in "ab"]))
    unit = pixels.permute(0, 3, 1, 2).float() / 255
    large = F.interpolate(unit, size=(96, 96), mode="bicubic").clamp(0, 1)
    damaged = cp.degradations.preset("daefr").apply(large, made.drawn[[0, 1]], mode="strict")
    assert torch.equal(pairs.clean, F.interpolate(unit, size=(24, 24), mode="area"))
    assert torch.equal(pairs.degraded, F.interpolate(damaged, size=(24, 24), mode="area"))


def test_a_part_of_the_faces_is_degraded_as_in_the_whole(faces):
    whole, part = _small(faces), _small(faces, limit=2)
    assert [face.name for face in part.faces] == ["a", "c"]
    for row, place in enumerate((0, 2)):
        assert part.drawn.describe(row) == whole.drawn.describe(place)
    assert _small(faces, seed=4).drawn.describe(0) != whole.drawn.describe(0)


def test_an_index_chooses_the_split_and_names_the_people(faces):
    (faces / "index.csv").write_text("id,split,identity,file,file512\nx,test,p,a.png,b.png\ny,train,q,c.png,\n")
    made = _small(faces, split="test")
    assert [(face.name, face.file, face.identity) for face in made.faces] == [("x", "b.png", "p")]
    with pytest.raises(ValueError, match=r"no row of .* has the split 'val'"):
        _small(faces, split="val")


def test_faces_that_cannot_be_read_are_named_and_in_no_mean(faces):
    (faces / "f.png").write_bytes(b"not a picture")
    made = _small(faces)
    assert list(made.unreadable) == ["f.png"]
    Image.new("RGB", (48, 48)).save(faces / "b.png")
    (faces / "d.png").unlink()
    results = command.evaluate(faces, made, {}, measures=[psnr_measure()], size=24, batch=2)
    assert set(results.missing["input"]) == {"b", "d"}
    assert results.missing["input"]["b"] == "is another picture than when the set was built"
    assert results.summaries()["input"]["PSNR"].count == 3


def test_figures_are_those_of_the_restored_pixels(faces):
    made = _small(faces)
    restorers = {"same": lambda images: images, "grey": lambda images: torch.full_like(images, 0.5)}
    results = command.evaluate(faces, made, restorers, measures=[psnr_measure(), ssim_measure()], size=24, batch=2)
    pairs = next(made.batches(faces, size=24))
    assert results.values["same"] == results.values["input"]
    assert results.column("grey", "PSNR") == psnr(torch.full_like(pairs.clean, 0.5), pairs.clean).tolist()
    assert results.column("input", "PSNR") == psnr(pairs.degraded, pairs.clean).tolist()


def test_what_is_measured_is_not_run_again_and_a_new_method_costs_itself(faces, tmp_path):
    made, ran = _small(faces), []

    def restorer(name: str, level: float):
        def restore(images):
            ran.append((name, len(images)))
            return images * level

        return restore

    def measured(weights: dict[str, str], part: TestSet = made):
        ran.clear()
        restorers = {name: restorer(name, 0.5 if sum_ == "x" else 0.9) for name, sum_ in weights.items()}
        with Journal(tmp_path / "journal.jsonl", key={}) as journal:
            done = Done(journal, part.stamps(), weights)
            return command.evaluate(
                faces, part, restorers, measures=[psnr_measure()], size=24, batch=2, done=done
            ).values  # fmt: skip

    first = measured({"a": "x"}, _small(faces, limit=2))
    assert sum(count for _, count in ran) == 2
    whole = measured({"a": "x"})
    assert sum(count for _, count in ran) == 3
    assert whole["a"].items() >= first["a"].items()
    assert list(whole["a"]) == list("abcde")
    both = measured({"a": "x", "b": "y"})
    assert {name for name, _ in ran} == {"b"}
    assert (both["a"], both["input"]) == (whole["a"], whole["input"])
    assert measured({"a": "y", "b": "y"})["a"] == both["b"]
    assert {name for name, _ in ran} == {"a"}
    measured({"a": "y", "b": "y"}, _small(faces, seed=4))
    assert {name for name, _ in ran} == {"a", "b"}


def test_a_set_whose_preset_changed_is_refused(faces, tmp_path):
    _small(faces).save(tmp_path / "set.json")
    (tmp_path / "set.json").write_text((tmp_path / "set.json").read_text().replace("sigma=(0.1, 15)", "sigma=(0.1, 9)"))
    with pytest.raises(ValueError, match=r"was Chain.*and is Chain.* today; build the set anew"):
        TestSet.load(tmp_path / "set.json")
    (tmp_path / "other.json").write_text("[1]")
    with pytest.raises(ValueError, match="no test set of the format"):
        TestSet.load(tmp_path / "other.json")


def test_the_command_measures_trained_weights(faces, tmp_path, monkeypatch, capsys):
    network = recipes.Network(
        size=32, dim=8, codes=16, channels=8, multipliers=(1, 2), encoder_blocks=1, decoder_blocks=1, groups=4,
        fusion_groups=4, fusion_heads=2, width=16, layers=1, heads=2, hidden=16,
    )  # fmt: skip
    torch.manual_seed(0)
    teacher = model.vqgan(network)
    recipe = recipes.RestorationRecipe(network=network, branches="single")
    cp.save(tmp_path / "single.safetensors", model.restorer(recipe, teacher.prior()))
    cp.save(tmp_path / "teacher.safetensors", teacher)
    out, trained = tmp_path / "out", tmp_path / "single.safetensors"
    words = f"--faces {faces} --out {out} --limit 3 --batch 2 --columns psnr,ssim --pictures --report-count 1".split()
    words += f"--preset daefr --preset daefr-association --teacher {tmp_path / 'teacher.safetensors'}".split()
    words += ["--method", f"single={trained}"]
    assert command.main(words) == 0
    assert "| single |" in capsys.readouterr().out
    for preset in ("daefr", "daefr-association"):
        folder = tmp_path / "out" / preset
        found = json.loads((folder / "results.json").read_text())
        assert found["settings"]["methods"]["single"]["sha256"] == checksum(tmp_path / "single.safetensors")
        assert found["settings"]["set_sha256"] == checksum(folder / "set.json")
        assert found["summaries"]["single"]["PSNR"]["count"] == 3
        assert 0 <= found["settings"]["codes"]["single"]["accuracy"] <= 1
        rows = list(csv.DictReader((folder / "scores.csv").read_text().splitlines()))
        assert len(rows) == 2 * 3
        # the pictures kept are the ones measured: 8-bit PSNR is the same from the files
        kept, clean = (_unit(folder / "pictures" / which / "a.png") for which in ("single", "clean"))
        row = next(row for row in rows if (row["method"], row["image"]) == ("single", "a"))
        assert float(row["PSNR"]) == pytest.approx(float(psnr(kept, clean)), rel=1e-9)
        assert "report/000_best.jpg" in (folder / "report.html").read_text()
        assert (folder / "pictures" / "pairs.csv").read_text() == "first,second,same\n"
    # finished presets are not measured again, unless their weights change
    calls = []
    monkeypatch.setattr(command, "evaluate", lambda *_, **__: calls.append(1))
    assert command.main(words) == 0
    assert "measured before" in capsys.readouterr().out
    assert not calls
    torch.manual_seed(1)
    cp.save(tmp_path / "single.safetensors", model.restorer(recipe, teacher.prior()))
    with pytest.raises(AttributeError):
        command.main(words)
    assert calls


def test_matched_colours_are_a_method_of_their_own(tmp_path):
    weights = str(next(iter(daefr.__path__))) + "/weights/daefr_small.safetensors"
    restorers, told, size = load_methods([f"a={weights}"], colour=True)
    assert list(restorers) == list(told) == ["a", "a, colours matched"]
    images = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    matched = restorers["a, colours matched"](images)
    assert torch.equal(matched, match_colour(restorers["a"](images), images))
    assert not torch.equal(matched, restorers["a"](images))


def _unit(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None].float() / 255


def test_a_wrong_call_says_what_is_wrong(tmp_path, capsys):
    assert command.main(["--faces", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "at least one readable face" in capsys.readouterr().err
    assert command.main(["--faces", str(tmp_path), "--out", str(tmp_path), "--method", "x"]) == 1
    assert 'expected --method "NAME=WEIGHTS"' in capsys.readouterr().err

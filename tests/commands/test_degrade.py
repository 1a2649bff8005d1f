"""`codeprior degrade` as a user calls it."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from codeprior.__main__ import main
from codeprior.commands._sheet import contact_sheet
from codeprior.degradations import Params, about_preset, preset, preset_names, steps
from tests.photos.corpus import scene


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, side in (("a.png", 96), ("b.png", 72)):
        Image.fromarray(scene(side, side)).save(folder / name)
    return folder


def planes(path) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1).contiguous()


def test_the_same_seed_gives_the_same_damage_whatever_else_lies_in_the_folder(tmp_path, folder):
    assert main(["degrade", str(folder), str(tmp_path / "first"), "--preset", "daefr", "--seed", "3"]) == 0
    (folder / "a.png").unlink()
    Image.fromarray(scene(64, 64)).save(folder / "c.png")
    assert main(["degrade", str(folder), str(tmp_path / "second"), "--preset", "daefr", "--seed", "3"]) == 0
    assert (tmp_path / "first/b.png").read_bytes() == (tmp_path / "second/b.png").read_bytes()
    assert main(["degrade", str(folder), str(tmp_path / "third"), "--seed", "4"]) == 0
    assert not torch.equal(planes(tmp_path / "first/b.png"), planes(tmp_path / "third/b.png"))


def test_what_was_drawn_is_recorded_reported_and_replays(tmp_path, folder):
    report, out = tmp_path / "report.jsonl", tmp_path / "out"
    call = ["degrade", str(folder), str(out), "--preset", "gfpgan", "--record", "--sheet", "--report", str(report)]
    assert main(call) == 0
    for line in report.read_text().splitlines():
        entry = json.loads(line)
        drawn = Params.load(entry["output"].replace(".png", ".safetensors"))
        assert drawn.describe() == entry["values"]
        again = preset("gfpgan").apply(planes(entry["input"]), drawn)
        assert isinstance(again, torch.Tensor) and torch.equal(again, planes(entry["output"]))
        with Image.open(entry["output"].replace(".png", ".sheet.png")) as sheet:
            assert sheet.width > 256 * 3
    before = {path: path.read_bytes() for path in [report, *out.iterdir()]}
    assert main(call) == 2  # nothing is replaced unasked, the report neither
    assert main(call[:-2]) == 3
    assert all(path.read_bytes() == content for path, content in before.items())
    assert main([*call, "--overwrite"]) == 0


@pytest.mark.parametrize("name", ["daefr", "realesrgan", "bsrgan", "gfpgan"])
@pytest.mark.filterwarnings("ignore:preset")
def test_the_last_step_is_the_result(name):
    op, image = preset(name), torch.from_numpy(scene(96, 96)).permute(2, 0, 1).contiguous()
    drawn = op.sample(image, torch.Generator().manual_seed(1))
    done = steps(op, image, drawn)
    result = op.apply(image, drawn, mode="strict")
    assert isinstance(result, torch.Tensor) and torch.equal(done[-1].image, result)
    assert contact_sheet(image, done).shape[2] == 3
    with pytest.raises(ValueError, match="slice the record to the image's row"):
        steps(op, image, op.sample((2, 96, 96), torch.Generator()))


def test_wrong_calls_and_bad_files_are_told(tmp_path, folder, capsys):
    assert main(["degrade", str(folder)]) == 2
    assert "give at least one input and then the output" in capsys.readouterr().err
    assert main(["degrade", str(folder), str(tmp_path / "out"), "--preset", "nope"]) == 2
    assert "expected one of bsrgan, codeformer-I" in capsys.readouterr().err
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:80])
    Image.fromarray(scene(8, 8)).save(folder / "tiny.png")
    assert main(["degrade", str(folder), str(tmp_path / "out"), "--preset", "codeformer-II"]) == 3
    told = capsys.readouterr().err
    assert "cut.png" in told and "2 degraded with codeformer-II" in told
    assert main(["degrade", "--list"]) == 0
    listed = capsys.readouterr().out
    lines = {line.split()[0]: line for line in listed.splitlines()}
    assert set(lines) == set(preset_names()) and "LIAGM/DAEFR" in lines["daefr"]
    for name, line in lines.items():
        about = about_preset(name)
        assert line.split()[1] == about.status and about.chosen in line

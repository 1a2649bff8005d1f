"""`codeprior restore` and `convert` as a user calls them, with a small untrained model."""

import json

import pytest
import torch
from PIL import Image

from codeprior.__main__ import main
from codeprior.weights import read_metadata, save
from tests.photos.corpus import encoded, scene


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    from codeprior.recipes.daefr import recipes
    from codeprior.recipes.daefr.model import restorer, vqgan

    recipe = recipes.restoration_small()
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save(path, restorer(recipe, vqgan(recipe.network).prior()), dtype=torch.float16)
    return path


def test_good_ones_are_restored_and_bad_ones_reported(tmp_path, weights):
    folder, out, report = tmp_path / "in", tmp_path / "out", tmp_path / "report.jsonl"
    folder.mkdir()
    for name in ("a.png", "b.jpg"):
        Image.fromarray(scene(64, 64)).save(folder / name)
    (folder / "cut.png").write_bytes(encoded("PNG")[:60])
    (folder / "notes.txt").write_text("no picture")
    call = [
        "restore",
        str(folder),
        str(out),
        "--weights",
        str(weights),
        "--aligned",
        "--report",
        str(report),
        "--quiet",
    ]
    assert main([*call, "--compare", "--uncertainty"]) == 3
    lines = {line["input"].rpartition("/")[2]: line for line in map(json.loads, report.read_text().splitlines())}
    assert {name: line["status"] for name, line in lines.items()} == {
        "a.png": "restored", "b.jpg": "restored", "cut.png": "failed",
    }  # fmt: skip
    assert "truncated" in lines["cut.png"]["reason"]
    assert Image.open(out / "a.png").size == (128, 128)
    assert (out / "a.compare.png").exists()
    assert (out / "a.uncertainty.png").exists()
    before = (out / "a.png").read_bytes()
    assert main(call) == 3
    assert (out / "a.png").read_bytes() == before
    (folder / "cut.png").unlink()
    assert main([*call, "--resume"]) == 0


def test_a_photograph_without_a_face_is_an_error_and_writes_nothing(tmp_path, weights, capsys):
    Image.fromarray(scene(80, 80)).save(tmp_path / "a.png")
    assert main(["restore", str(tmp_path / "a.png"), str(tmp_path / "b.png"), "--weights", str(weights)]) == 3
    assert "a.png: no face was found" in capsys.readouterr().err
    assert not (tmp_path / "b.png").exists()


def test_wrong_calls_end_with_two(tmp_path, weights):
    assert main(["restore", str(tmp_path)]) == 2
    assert main(["restore", str(tmp_path / "*.jpg"), str(tmp_path / "out"), "--weights", str(weights)]) == 2
    assert main(["unknown"]) == 2


def test_convert_keeps_the_tensors_and_names_what_it_drops(tmp_path, capsys):
    torch.save({"state_dict": {"w": torch.arange(3.0)}, "optimizer": {"m": torch.zeros(2)}}, tmp_path / "a.ckpt")
    assert main(["convert", str(tmp_path / "a.ckpt"), str(tmp_path / "a.safetensors")]) == 0
    assert "dropped optimizer: 1 tensors" in capsys.readouterr().out
    assert read_metadata(tmp_path / "a.safetensors")["source"] == "a.ckpt"
    assert main(["convert", str(tmp_path / "a.ckpt"), str(tmp_path / "a.safetensors")]) == 2
    assert main(["convert", str(tmp_path / "a.ckpt"), str(tmp_path / "b.safetensors"), "--sha256", "0" * 64]) == 2

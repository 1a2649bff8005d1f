"""`codeprior export` says what it read, wrote and compared, and `codeprior restore` takes what it wrote."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

import codeprior as cp
from codeprior.__main__ import main
from codeprior.export import export_model
from tests.export.models import single


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "single.safetensors"
    cp.save(path, single(), metadata={"licence": "CC0"})
    return path


def test_the_command_says_what_it_wrote(weights, tmp_path, capsys):
    assert main(["export", str(weights), str(tmp_path / "a.pt2"), "--format", "pt2"]) == 0
    read, licence, wrote, beside = capsys.readouterr().out.splitlines()
    assert read == f"read {weights}: SingleEncoder of the family daefr, 16 px"
    assert licence == "licence of the weights: CC0"
    assert re.fullmatch(rf"wrote {tmp_path}/a\.pt2: pt2, \d\.\d MiB; takes image, any batch", wrote)
    assert beside.startswith("beside the model: largest difference of a pixel ")
    assert beside.endswith(" of the range, 256 of 256 codes equal (3 faces)")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["a.pt2", "--format", "onnx"], "the output of --format onnx must end in .onnx, got"),
        (["a.bin"], "expected a name that ends in .onnx or .pt2"),
        (["a.pt2", "--size", "15"], "a multiple of the stride 2, got 15"),
        (["a.pt2", "--option", "seed"], "--option seed: expected NAME=VALUE"),
    ],
)
def test_a_wrong_call_is_refused_in_one_line(weights, tmp_path, capsys, words, text):
    assert main(["export", str(weights), str(tmp_path / words[0]), *words[1:]]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("codeprior export: ") and text in line and line.count("export: ") == 1
    assert not list(tmp_path.iterdir())


def test_restore_runs_an_onnx_file_in_a_photograph(weights, tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    made = export_model(cp.load(weights), tmp_path / "single.onnx")
    pixels = (np.random.default_rng(0).random((48, 48, 3)) * 255).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "face.png")
    for name, file in (("torch", weights), ("onnx", made.path)):
        words = ["--weights", str(file), "--aligned", "--always", "--quiet"]
        assert main(["restore", str(tmp_path / "face.png"), str(tmp_path / f"{name}.png"), *words]) == 0
    by_torch, by_onnx = (np.asarray(Image.open(tmp_path / f"{n}.png")).astype(int) for n in ("torch", "onnx"))
    assert by_torch.shape == by_onnx.shape == (16, 16, 3)
    assert np.abs(by_torch - by_onnx).max() <= 1  # a level is 1/255, where rounding turns

"""The command that trains: from faces in a folder to a restorer, and the way back into a run."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from codeprior.recipes.daefr import load
from codeprior.recipes.daefr.train import main


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    random = np.random.default_rng(0)
    for number in range(3):
        small = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        small.resize((64, 64)).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def trained(faces, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    status = main(
        ["small", "--faces", str(faces), "--out", str(out), "--steps", "2", "--batch", "1", "--threads", "1",
         "--perceptual-weights", "random", "--device", "cpu", "--log-every", "1"]
    )  # fmt: skip
    assert status == 0
    return out


def test_four_stages_end_in_a_restorer_that_loads(trained):
    stages = ["association_small", "hq_codebook_small", "lq_codebook_small", "restoration_small"]
    assert sorted(path.name for path in trained.iterdir()) == stages
    for stage in stages:
        steps = [json.loads(line).get("step") for line in (trained / stage / "log.jsonl").read_text().splitlines()]
        assert steps[-1] == 2 and list((trained / stage / "previews").glob("*.png"))
    restorer = load(str(trained / "restoration_small" / "restorer.safetensors"))
    image = torch.rand(1, 3, 128, 128)
    assert restorer(image).shape == image.shape


def test_the_restorer_ends_with_the_prior_of_the_first_stage(trained):
    teacher = load_state(trained / "hq_codebook_small" / "vqgan.safetensors")
    restorer = load_state(trained / "restoration_small" / "restorer.safetensors")
    for name, value in teacher.items():
        if name.startswith("decoder.") or name == "codebook.weight":
            assert torch.equal(restorer[f"prior.{name}"], value)


def test_a_finished_run_does_nothing_more(trained, faces):
    before = (trained / "hq_codebook_small" / "vqgan.safetensors").read_bytes()
    arguments = [
        "hq_codebook_small",
        "--faces",
        str(faces),
        "--out",
        str(trained / "hq_codebook_small"),
        "--steps",
        "2",
    ]
    assert main([*arguments, "--batch", "1", "--perceptual-weights", "random", "--device", "cpu"]) == 0
    assert (trained / "hq_codebook_small" / "vqgan.safetensors").read_bytes() == before


def test_missing_stages_and_pictures_are_named(faces, tmp_path, capsys):
    assert (
        main(
            ["association_small", "--faces", str(faces), "--out", str(tmp_path / "a"), "--perceptual-weights", "random"]
        )
        == 2
    )
    assert "hq_codebook_small/vqgan.safetensors is missing; run the stage before this one" in capsys.readouterr().err
    assert main(["hq_codebook_small", "--faces", str(tmp_path / "none"), "--out", str(tmp_path / "b")]) == 2
    assert "no pictures in" in capsys.readouterr().err


def load_state(path):
    from codeprior import weights

    return weights.load(path).state_dict()

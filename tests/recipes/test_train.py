"""The command that trains: from faces in a folder to a restorer, and the way back into a run."""

import json
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from codeprior import weights
from codeprior.recipes.daefr import load, train
from codeprior.recipes.daefr.codebook_stage import CodebookStage
from codeprior.recipes.daefr.model import vqgan
from codeprior.recipes.daefr.settings import small_network
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


def test_all_stages_end_in_a_restorer_that_loads(trained):
    stages = [
        "association_small",
        "decoder_small",
        "fidelity_small",
        "hq_codebook_small",
        "lq_codebook_small",
        "restoration_small",
    ]
    assert sorted(path.name for path in trained.iterdir()) == stages
    for stage in stages:
        steps = [json.loads(line).get("step") for line in (trained / stage / "log.jsonl").read_text().splitlines()]
        assert steps[-1] == 2 and list((trained / stage / "previews").glob("*.png"))
    image = torch.rand(1, 3, 128, 128)
    for stage, tapped in (("restoration_small", False), ("fidelity_small", True), ("decoder_small", True)):
        restorer = load(str(trained / stage / "restorer.safetensors"))
        assert restorer(image).shape == image.shape and (restorer.model.taps is not None) is tapped


def test_the_restorer_ends_with_the_prior_of_the_first_stage(trained):
    teacher = load_state(trained / "hq_codebook_small" / "vqgan.safetensors")
    restorer = load_state(trained / "restoration_small" / "restorer.safetensors")
    for name, value in teacher.items():
        if name.startswith("decoder.") or (name.endswith(".weight") and name.startswith("codebook.")):
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


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"weights": {"l1": 2.0, "perceptual": 1.0, "adversarial": 0.8, "codebook": 1.0}}, "settings.weights"),
        ({"learning_rate": 1.0}, "learning_rate was"),
        ({"discriminator_rest": 9.0}, "settings.discriminator_rest was"),
    ],
)
def test_another_loss_or_rate_on_the_folder_of_a_run_is_refused(changes, reason, trained, faces, monkeypatch, capsys):
    folder, name = trained / "hq_codebook_small", "hq_codebook_small"
    before = (folder / "vqgan.safetensors").read_bytes()
    recipe = replace(train.RECIPES[name](), **changes)
    monkeypatch.setattr(train, "RECIPES", {**train.RECIPES, name: lambda: recipe})
    words = [name, "--faces", str(faces), "--out", str(folder), "--steps", "3", "--batch", "1"]
    assert main([*words, "--perceptual-weights", "random", "--device", "cpu"]) == 2
    told = capsys.readouterr().err
    assert "holds a run with other settings" in told and reason in told
    assert (folder / "vqgan.safetensors").read_bytes() == before


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


def test_a_command_that_is_asked_to_stop_ends_with_75_and_goes_on_to_the_same_end(faces, tmp_path, monkeypatch):
    def run(out):
        words = ["hq_codebook_small", "--faces", str(faces), "--out", str(tmp_path / out), "--steps", "4"]
        return main([*words, "--batch", "1", "--perceptual-weights", "random", "--device", "cpu", "--threads", "1"])

    assert run("whole") == 0
    update = CodebookStage.update

    def asked(stage, batch, step):
        if step == 1:
            signal.raise_signal(signal.SIGTERM)
        return update(stage, batch, step)

    monkeypatch.setattr(CodebookStage, "update", asked)
    with pytest.raises(SystemExit) as stop:
        run("stopped")
    assert stop.value.code == 75
    # the weights for the next stage are those of a whole run only
    assert not (tmp_path / "stopped" / "vqgan.safetensors").exists()
    monkeypatch.setattr(CodebookStage, "update", update)
    assert run("stopped") == 0
    first, second = (load_state(tmp_path / out / "vqgan.safetensors") for out in ("whole", "stopped"))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_what_a_run_shows_lies_in_its_folder(faces, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    words = ["restoration_small", "--faces", str(faces), "--out", str(tmp_path / "run"), "--steps", "2", "--batch", "1"]
    for name in ("hq_codebook_small/vqgan", "association_small/hq_vqgan", "association_small/lq_vqgan"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        weights.save(tmp_path / f"{name}.safetensors", vqgan(small_network()))
    words += ["--device", "cpu", "--threads", "1", "--log-every", "1", "--preview-every", "1", "--tensorboard"]
    assert main([*words, "--code-cache", str(tmp_path / "codes.safetensors")]) == 0
    run = tmp_path / "run"
    assert [path.name for path in sorted((run / "previews").iterdir())] == ["step-00000001.png", "step-00000002.png"]
    # degraded, restored, what the prior can do, and the truth
    assert Image.open(run / "previews" / "step-00000002.png").size[0] >= 4 * 128
    report = (run / "report.html").read_text()
    assert "accuracy" in report and report.count("data:image/png;base64,") == 2
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert {"code", "feature", "total", "accuracy"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Images("preview")] == [1, 2]


def load_state(path):
    return weights.load(path).state_dict()

"""CodeFormer's three stages at a tiny size: what each trains, its phases, and that a resumed run is the same run."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from codeprior import save
from codeprior.discriminators import PatchGAN
from codeprior.recipes.codeformer import settings as numbers
from codeprior.recipes.codeformer import train as command
from codeprior.recipes.codeformer.codes_stage import CodesStage
from codeprior.recipes.codeformer.fidelity_stage import FidelityStage
from codeprior.recipes.codeformer.model import fresh, fresh_taps, vqgan
from codeprior.stages import VQGANStage, rate_at, validation
from codeprior.training import Settings
from tests.recipes.steps import assert_a_resumed_run_is_the_same, assert_the_hatch_counts
from tests.torture.stages import Edges, stream

TINY = replace(
    numbers.small_network(), size=32, dim=4, codes=8, channels=8, multipliers=(1, 2), unshuffle=2, groups=4, width=8,
    layers=1, heads=2, hidden=8, tap_strides=(4, 2),
)  # fmt: skip
SMALL = {"network": TINY, "degradation_size": 32, "batch": 4}


class Changes:
    """Stands for `FixedFaces`: how much the degraded faces change, as identity and perceptual distance."""

    def __init__(self, clean, degraded=None):
        self.degraded = degraded

    def restored(self, restore):
        changed = float((restore(self.degraded) - self.degraded).abs().mean())
        return {"identity": changed, "perceptual": changed}


def _teacher(seed: int = 0):
    torch.manual_seed(seed)
    teacher = vqgan(TINY)
    torch.nn.init.normal_(teacher.codebook.weight)
    return teacher


def _codes(seed: int = 0) -> CodesStage:
    teacher = _teacher()
    torch.manual_seed(seed)
    return CodesStage(replace(numbers.codes_small(), **SMALL), teacher=teacher)


def _fidelity(seed: int = 0, **changes) -> FidelityStage:
    teacher = _teacher()
    torch.manual_seed(seed)
    # picture steps until 4, codes until 6, then every second step goes back to pictures
    phases = {
        "steps": 900, "gentle_until": 2 / 900, "strong_until": 4 / 900, "codes_until": 6 / 900, "strong_every": 2,
        "adversarial_from": None, "adversarial_start": 1,
    }  # fmt: skip
    settings = replace(
        numbers.fidelity_small(), **SMALL, **(phases | changes), discriminator_channels=4, discriminator_layers=1
    )
    return FidelityStage(settings, model=fresh(TINY, teacher), teacher=teacher, perceptual=Edges())


def _prior(seed: int = 0) -> VQGANStage:
    settings = replace(
        numbers.prior_small(), **SMALL, steps=40, adversarial_from=None, adversarial_start=3, codes_from=0.0, crop=None,
        whole_batch=None, discriminator_channels=4, discriminator_layers=1,
    )  # fmt: skip
    torch.manual_seed(seed)
    return VQGANStage(settings, model=vqgan(TINY, moving_average=True), size=32, perceptual=Edges())


@pytest.mark.parametrize("build", [_prior, _codes, _fidelity])
def test_a_resumed_run_ends_with_the_bits_of_one_that_never_stopped(build, tmp_path: Path):
    assert_a_resumed_run_is_the_same(build, tmp_path, steps=8)


def test_the_small_stage_keeps_patterns_of_two_pixels_away(tmp_path: Path):
    assert_the_hatch_counts(_fidelity, tmp_path)
    assert "hatch" not in numbers.fidelity().weights


def test_the_codes_stage_trains_encoder_and_predictor_and_lowers_its_loss(tmp_path: Path):
    stage, data = _codes(), stream(tmp_path / "faces")
    before = {name: value.clone() for name, value in stage.model.state_dict().items()}
    batch = data.at(0)
    losses = [float(stage.update(batch, step)["total"]) for step in range(12)]
    assert losses[-1] < losses[0]
    moved = {
        name.split(".")[0] for name, value in stage.model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert moved == {"encoder", "predictor"}


def test_steps_that_learn_codes_leave_the_taps_and_make_no_picture(tmp_path: Path):
    stage, data = _fidelity(), stream(tmp_path / "faces")
    taps = {name: value.clone() for name, value in stage.model.taps.state_dict().items()}
    metrics = stage.update(data.at(5), 5)  # codes only
    assert "l1" not in metrics and {"feature", "code"} <= set(metrics)
    assert all(torch.equal(value, taps[name]) for name, value in stage.model.taps.state_dict().items())
    metrics = stage.update(data.at(2), 2)  # pictures, and the discriminator has begun
    assert {"l1", "perceptual", "adversarial", "adaptive_weight", "discriminator"} <= set(metrics)
    assert any(not torch.equal(value, taps[name]) for name, value in stage.model.taps.state_dict().items())
    # the paper's limit of 1, times the weight 0.1
    assert 0 <= float(metrics["adaptive_weight"]) <= 0.1 + 1e-6


def test_a_discriminator_that_is_given_goes_on():
    teacher = _teacher()
    judge = PatchGAN(4, 1, norm="group")
    settings = replace(numbers.fidelity_small(), **SMALL)
    made = FidelityStage(
        settings, model=fresh(TINY, teacher), teacher=teacher, perceptual=Edges(), discriminator=judge
    )  # fmt: skip
    assert made.discriminator is judge


def test_the_published_numbers_stand_in_the_settings():
    codes, fidelity = numbers.codes(), numbers.fidelity()
    assert [rate_at(codes, step) for step in (0, 399_999, 400_000, 450_000)] == [1e-4, 1e-4, 5e-5, 2.5e-5]
    assert rate_at(fidelity, 1) == pytest.approx(5e-5) and rate_at(fidelity, 150_000) == pytest.approx(2e-5)
    assert rate_at(numbers.prior(), 1_600_000) == pytest.approx(6e-5)
    phases = [fidelity.phase(step) for step in (0, 40_000, 40_001, 80_000, 80_001, 119_995, 120_000, 120_015, 120_016)]
    assert phases == [
        ("mild", 1.0), ("mild", 1.0), ("mild", 1.3), ("mild", 1.3), ("severe", None), ("severe", None),
        ("severe", None), ("mild", 1.3), ("severe", None),
    ]  # fmt: skip
    assert dict(fidelity.weights) == {"feature": 1, "code": 0.5, "l1": 1, "perceptual": 1, "adversarial": 0.1}
    # the published model: 94,112,707 parameters
    with torch.device("meta"):
        network = numbers.Network()
        model = fresh(network, vqgan(network))
        whole = model.with_taps(fresh_taps(network))
    assert sum(value.numel() for value in whole.parameters()) == 94_112_707


def test_the_settings_of_the_other_tasks_are_the_published_ones_and_the_weights_keep_the_task():
    inpainting = numbers.inpainting()
    assert [rate_at(inpainting, step) for step in (0, 249_999, 250_000)] == [7e-5, 7e-5, 3.5e-5]
    assert {inpainting.phase(step) for step in (0, 120_000, 299_999)} == {("mild", 1.0)}
    assert (inpainting.first_adversarial, inpainting.network.codes, inpainting.batch) == (296_001, 512, 12)
    # the published model: 92,652,867 parameters
    with torch.device("meta"):
        network = inpainting.network
        whole = fresh(network, vqgan(network)).with_taps(fresh_taps(network), task="inpainting")
    assert sum(value.numel() for value in whole.parameters()) == 92_652_867 and whole.task == "inpainting"
    teacher = _teacher()
    codes = CodesStage(replace(numbers.colourisation(), **SMALL), teacher=teacher)
    assert codes.result.task == "colourisation"
    settings = replace(numbers.inpainting(), **SMALL, discriminator_channels=4, discriminator_layers=1)
    stage = FidelityStage(settings, model=fresh(TINY, teacher), teacher=teacher, perceptual=Edges())
    assert stage.result.task == "inpainting"


def test_fidelity_moves_the_picture_towards_the_input(tmp_path: Path):
    """After a short training of the taps, the restored face is the nearer to the input the higher the weight."""
    stage = _fidelity(gentle_until=0.5, strong_until=0.5, adversarial_start=10**6)
    stage.recipe = replace(stage.recipe, learning_rate=3e-3, decay_from=1.0)
    data = stream(tmp_path / "faces")
    for step in range(60):
        stage.update(data.at(step), step)
    clean = stage.faces.clean(data.at(0).clean)
    model = stage.model.eval()
    # the paper measures fidelity by PSNR; the input is a face that nothing is the matter with
    errors = [float((model.restore(clean, fidelity=w).clamp(-1, 1) - clean).square().mean()) for w in (0.0, 0.5, 1.0)]
    assert errors[0] > errors[1] > errors[2]


def test_the_command_runs_a_stage_and_the_next_one_finds_it(tmp_path: Path, monkeypatch, capsys):
    stream(tmp_path / "faces")
    tiny = {"codes_small": lambda: replace(numbers.codes_small(), **SMALL)}
    monkeypatch.setattr(command, "SETTINGS", {**numbers.SETTINGS, **tiny})
    call = ["codes_small", "--faces", str(tmp_path / "faces"), "--out", str(tmp_path / "codes_small"), "--steps", "2"]
    assert command.main([*call, "--device", "cpu"]) == 2
    assert "vqgan.safetensors is missing; run the stage before this one" in capsys.readouterr().err
    (tmp_path / "prior_small").mkdir()
    save(tmp_path / "prior_small" / "vqgan.safetensors", _teacher())
    assert command.main([*call, "--device", "cpu", "--preview-every", "0"]) == 0
    assert (tmp_path / "codes_small" / "restorer.safetensors").exists()
    # more steps go on, also with the file of the prior; another rate is another run, and the answer says what differs
    named = ["--prior", str(tmp_path / "prior_small" / "vqgan.safetensors")]
    assert command.main([*call[:-1], "4", *named, "--device", "cpu", "--preview-every", "0"]) == 0
    capsys.readouterr()
    assert command.main([*call[:-1], "6", "--rate", "0.5", "--device", "cpu", "--preview-every", "0"]) == 2
    assert "learning_rate" in capsys.readouterr().err
    # a word of the command changes the settings, and the folder's own record is what the run was really made with
    pytest.importorskip("jsonargparse")
    record = tmp_path / "codes_small" / "configuration.json"
    assert json.loads(record.read_text())["settings"]["learning_rate"] != 0.5
    assert (
        command.main([*call[:-1], "6", "--config", str(record), "--set", "weights.code=0.25", "--device", "cpu"]) == 2
    )
    assert "weights.code" in capsys.readouterr().err


def test_the_command_measures_the_third_stage_on_faces_that_it_does_not_train_on(tmp_path: Path, monkeypatch):
    stream(tmp_path / "faces")
    stream(tmp_path / "others")
    tiny = replace(numbers.fidelity_small(), **SMALL, discriminator_channels=4, discriminator_layers=1)
    monkeypatch.setattr(command, "SETTINGS", {**numbers.SETTINGS, "fidelity_small": lambda: tiny})
    # the change of the faces stands for every measure
    monkeypatch.setattr(validation, "FixedFaces", Changes)
    save(tmp_path / "prior.safetensors", _teacher())
    save(tmp_path / "codes.safetensors", fresh(TINY, _teacher()))
    call = ["fidelity_small", "--faces", str(tmp_path / "faces"), "--out", str(tmp_path / "run"), "--steps", "4"]
    call += ["--prior", str(tmp_path / "prior.safetensors"), "--codes", str(tmp_path / "codes.safetensors")]
    call += ["--perceptual-weights", "random", "--device", "cpu", "--preview-every", "0", "--precision", "bfloat16"]
    assert command.main([*call, "--degrade", "workers"]) == 2
    assert command.main([*call, "--validation", str(tmp_path / "others"), "--validate-every", "2"]) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    figures = {line["step"]: line["validation_score"] for line in lines if line.get("event") == "validation"}
    assert set(figures) == {2, 4} and all(0 < score < 2 for score in figures.values())


@pytest.mark.parametrize("name", numbers.SETTINGS)
def test_every_setting_is_kept_with_a_run_as_json(name):
    kept = Settings(numbers.SETTINGS[name](), name, without=("steps", "accumulate")).values()
    assert json.loads(json.dumps(kept))["recipe"] == name

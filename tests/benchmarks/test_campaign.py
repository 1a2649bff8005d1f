"""The campaign for a lent GPU runs here on tiny sizes, and goes on whatever a step does."""

import argparse
import json
import os
import subprocess
import sys
import tarfile
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.device import campaign, pack, prior
from benchmarks.device.campaign import Step, archive, environment, run, steps_of
from codeprior import weights
from codeprior.recipes.daefr import load, settings
from codeprior.recipes.daefr.model import restorer


def finished(out) -> dict:
    return json.loads((out / "summary.json").read_text())["steps"]


def test_a_step_that_fails_hangs_or_is_not_there_ends_alone(tmp_path):
    child = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
    steps = [
        Step("fails", [sys.executable, "-c", "raise SystemExit(3)"], 60),
        Step("hangs", [sys.executable, "-c", child + "print('begun', flush=True); time.sleep(60)"], 2),
        Step("absent", [str(tmp_path / "no-such-program")], 5),
        Step("runs", [sys.executable, "-c", "print('fine')"], 60),
    ]
    start = time.monotonic()
    run(steps, tmp_path, dict(os.environ))
    assert time.monotonic() - start < 50
    found = finished(tmp_path)
    assert [found[step.name]["status"] for step in steps][:2] == [3, "out of time"]
    assert "FileNotFoundError" in found["absent"]["status"]
    assert found["runs"]["status"] == 0 and found["runs"]["last"] == ["fine"]


def test_steps_beside_one_another_run_at_the_same_time(tmp_path):
    # each waits for a file that the other writes
    wait = "import sys, time; from pathlib import Path; mine, other = map(Path, sys.argv[1:]); mine.touch()\n"
    wait += "while not other.exists(): time.sleep(0.1)"
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    steps = [
        Step("first", [sys.executable, "-c", wait, first, second], 60),
        Step("second", [sys.executable, "-c", wait, second, first], 60, beside=True),
        Step("third", [sys.executable, "-c", ""], 60),
    ]
    run(steps, tmp_path, dict(os.environ))
    assert [finished(tmp_path)[name]["status"] for name in ("first", "second", "third")] == [0, 0, 0]


def test_what_is_printed_last_names_every_failed_test_and_every_time(tmp_path):
    test = tmp_path / "test_two.py"
    test.write_text("def test_good(): pass\ndef test_bad():\n    assert 1 + 1 == 3, 'sums'\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", tmp_path]
    command = [str(word) for word in (*command, "--junitxml", tmp_path / "tests.xml", test)]
    summary = run([Step("tests", command, 100)], tmp_path, dict(os.environ))
    row = {"op": "search", "n": 5, "impl": "codeprior", "ms": 0.25, "wrong": 0}
    (tmp_path / "rows.json").write_text(json.dumps([row]))
    (tmp_path / "half.json").write_text("[{")
    text = campaign.told(tmp_path, summary)
    assert "tests: 1 passed, 1 failed, 0 skipped" in text
    assert "FAILED test_two::test_bad  AssertionError: sums" in text
    assert "search 5 codeprior ms=0.25 wrong=0" in text
    (tmp_path / "rows.json").write_text(json.dumps([row] * 900))
    assert len(campaign.told(tmp_path, summary)) < 12_000


def test_the_summary_is_there_after_every_step(tmp_path):
    look = f"import json; print(list(json.load(open({str(tmp_path / 'summary.json')!r}))['steps']))"
    steps = [Step("first", [sys.executable, "-c", ""], 60), Step("second", [sys.executable, "-c", look], 60)]
    run(steps, tmp_path, dict(os.environ))
    assert finished(tmp_path)["second"]["last"] == ["['first']"]


def test_the_archive_has_no_more_than_was_allowed(tmp_path, capsys):
    (tmp_path / "small.json").write_text("{}")
    (tmp_path / "large.bin").write_bytes(os.urandom(5000))
    with tarfile.open(archive(tmp_path, most=1000)) as tar:
        assert tar.getnames() == ["small.json"]
    assert "left out of the archive: large.bin (5000 bytes)" in capsys.readouterr().out


def test_training_takes_every_stage_of_both_chains(tmp_path):
    (step,) = steps_of("train", tmp_path, tmp_path / "pack", minutes=8)
    assert step.command[step.command.index("--seconds") + 1] == "480" and step.seconds > 480
    stages = step.command[step.command.index("--stages") + 1 : step.command.index("--seconds")]
    for kind, names in (("small", settings.SMALL), ("medium", settings.MEDIUM)):
        assert tuple(f"{stage}_{kind}" for stage in stages) == names
        for stage, name in zip(stages, names, strict=True):
            # what the plan changes are fields of the recipe
            replace(settings.RECIPES[name](), **prior.PLANS[stage].changes)


def test_a_chain_begins_from_its_own_weights_or_the_small_ones(tmp_path):
    (tmp_path / "weights").mkdir()
    small = tmp_path / "weights" / "hq_vqgan_small.safetensors"
    small.write_bytes(b"small")
    folder = prior._first(tmp_path / "runs", tmp_path, "medium")
    assert (folder / "vqgan.safetensors").read_bytes() == b"small"
    (tmp_path / "weights" / "hq_vqgan_medium.safetensors").write_bytes(b"medium")
    assert prior._start(tmp_path, "medium").name == "hq_vqgan_medium.safetensors"
    assert prior._start(tmp_path, "small") == small
    # a first stage of this run is not replaced
    assert (prior._first(tmp_path / "runs", tmp_path, "medium") / "vqgan.safetensors").read_bytes() == b"small"


def test_taps_of_an_earlier_edition_fit_a_restorer_for_larger_faces(tmp_path):
    from safetensors.torch import save_file

    recipe = settings.fidelity_medium()
    earlier, taps = load("small").model, tmp_path / "taps.safetensors"
    parts = {"taps": earlier.taps, "encoder": earlier.tap_encoder}
    state = {f"{part}.{name}": value for part, module in parts.items() for name, value in module.state_dict().items()}
    save_file({name: value.contiguous() for name, value in state.items()}, taps)
    (tmp_path / "restoration_medium").mkdir()
    bare = restorer(settings.restoration_medium(), earlier.prior)
    weights.save(tmp_path / "restoration_medium" / "restorer.safetensors", bare)
    prior._with_taps(taps, tmp_path, recipe)
    found = weights.load(tmp_path / "with_taps" / "restorer.safetensors")
    for part, module in (("taps", found.taps), ("tap_encoder", found.tap_encoder)):
        for name, value in module.state_dict().items():
            assert torch.equal(value, getattr(earlier, part).state_dict()[name]), (part, name)
    assert found.predictor.grid == (32, 32)


def test_kernels_are_compiled_in_earnest_and_the_revision_travels(tmp_path):
    (tmp_path / "site" / "peer").mkdir(parents=True)
    (tmp_path / "REVISION").write_text("abc1234\n")
    found = environment(tmp_path, dry=False)
    assert found["TRITON_INTERPRET"] == "0" and found["CODEPRIOR_REVISION"] == "abc1234"
    assert str(tmp_path / "site") in found["PYTHONPATH"].split(os.pathsep)
    assert environment(tmp_path, dry=True)["TRITON_INTERPRET"] == "1"


def test_what_is_measured_is_marked_with_the_revision_that_travels(monkeypatch):
    from benchmarks._measure import about

    monkeypatch.setenv("CODEPRIOR_REVISION", "abc1234")
    assert about()["git"] == "abc1234"
    monkeypatch.delenv("CODEPRIOR_REVISION")
    monkeypatch.setenv("PATH", "")
    # a machine without git
    assert about()["git"] == "unknown"


def test_faces_are_packed_until_the_room_is_taken(tmp_path):
    faces = tmp_path / "faces"
    faces.mkdir()
    for number in range(6):
        noise = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(faces / f"{number}.png")
    out = tmp_path / "out"
    assert pack.pack_faces([faces], out, side=32, room=10**6) == 6
    assert {Image.open(path).size for path in (out / "faces").iterdir()} == {(32, 32)}
    one = max(path.stat().st_size for path in (out / "faces").iterdir())
    few = tmp_path / "few"
    assert 1 <= pack.pack_faces([faces], few, side=32, room=3 * one) < 6
    assert pack.size_of(few) <= 3 * one
    # without a side the files travel as they are, each source in a folder of its own name
    as_they_are = tmp_path / "whole"
    assert pack.pack_faces([faces], as_they_are, room=10**6) == 6
    for path in faces.iterdir():
        assert (as_they_are / "faces" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("call", ["tune", "correctness"])
@pytest.mark.slow
def test_the_dry_run_ends_well(call, tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks.device.campaign", "--call", call, "--dry", "--out", tmp_path],
        capture_output=True, text=True, timeout=580, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    for name, step in finished(tmp_path).items():
        assert step["status"] == 0, (name, (tmp_path / f"{name}.log").read_text()[-2000:])
    with tarfile.open(tmp_path / "results.tar.gz") as tar:
        assert {"summary.json", "rows.json"} <= set(tar.getnames())
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert {row["impl"] for row in rows} >= {"codeprior", "codeprior eager", "codeprior fast", "product and argmin"}
    assert all(row["wrong"] == 0 for row in rows if row["impl"] in ("codeprior", "codeprior eager"))


def test_a_dry_campaign_of_one_step_runs_in_seconds(tmp_path, monkeypatch):
    """The step that imports most: the commands of the rest are run by the slow test."""
    steps = [step for step in campaign.steps_of("tune", tmp_path, tmp_path, dry=True) if step.name == "tune"]
    # the machine may be busy; what is asked is whether the step ends well
    steps = [step._replace(seconds=900) for step in steps]
    run(steps, tmp_path, environment(tmp_path, dry=True))
    found = finished(tmp_path)["tune"]
    assert found["status"] == 0, (tmp_path / "tune.log").read_text()[-2000:]
    assert all(row["wrong"] == 0 for row in json.loads((tmp_path / "tiles.json").read_text()))


def test_the_last_restorer_that_came_to_its_end_is_written_in_half_precision(tmp_path):
    recipe = settings.restoration_small()
    bare = restorer(recipe, load("small").model.prior)
    runs, stages = tmp_path / "runs", ["restoration", "fidelity", "decoder"]
    given = argparse.Namespace(runs=runs, out=tmp_path / "out", stages=stages)
    given.out.mkdir()
    for stage, expected in (("restoration", "restorer_small"), ("fidelity", "daefr_small"), ("decoder", "daefr_small")):
        folder = runs / "small" / f"{stage}_small"
        folder.mkdir(parents=True)
        with torch.no_grad():
            next(bare.predictor.parameters()).fill_(stages.index(stage))
        weights.save(folder / "restorer.safetensors", bare)
        for file in given.out.iterdir():
            file.unlink()
        prior.write_results(given)
        assert [path.stem for path in given.out.glob("*.safetensors")] == [expected]
        found = next(weights.load(given.out / f"{expected}.safetensors").predictor.parameters())
        assert (found == stages.index(stage)).all()

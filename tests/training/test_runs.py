"""The folder of a run: one process at a time, one recipe, and nothing in it or around it that is not ours is lost."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch

from codeprior.training import Checkpoints, FolderInUse, Saving, Settings, train, write_report
from codeprior.training.checkpoint import verify
from codeprior.training.runs import LOCK, claimed, differences, made
from codeprior.training.watch import Log
from tests.training.toy import Toy, digest, stream, write_faces

RUN = {"steps": 4, "saving": Saving(every=2), "log_every": 2, "preview_every": 0, "progress": False}
_HOLDER = """
import sys, time
from pathlib import Path
from codeprior.training.runs import claimed
with claimed(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def data(tmp_path):
    return stream(write_faces(tmp_path / "faces"))


def _tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_has_one_run_at_a_time_and_is_free_after_a_kill(tmp_path, data):
    folder = tmp_path / "run"
    with subprocess.Popen([sys.executable, "-c", _HOLDER, str(folder)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        before = _tree(folder)
        with pytest.raises(FolderInUse, match=rf"another run is using .*run \(process {holder.pid} on"):
            train(Toy(), data, folder=folder, **RUN)
        assert _tree(folder) == before
        holder.send_signal(signal.SIGKILL)
    assert train(Toy(), data, folder=folder, **RUN) == (4, True)


@pytest.mark.parametrize("kind", ["link", "dangling link", "folder", "pipe", "hard link"])
def test_a_lock_is_never_written_through_a_link(tmp_path, kind):
    outside, folder = tmp_path / "outside", tmp_path / "run"
    outside.write_bytes(b"mine")
    folder.mkdir()
    if kind == "folder":
        (folder / LOCK).mkdir()
    elif kind == "pipe":
        os.mkfifo(folder / LOCK)
    elif kind == "hard link":
        os.link(outside, folder / LOCK)
    else:
        (folder / LOCK).symlink_to(outside if kind == "link" else tmp_path / "nowhere")
    with pytest.raises(OSError, match="not written through"), claimed(folder):
        pass
    assert outside.read_bytes() == b"mine" and not (tmp_path / "nowhere").exists()


def _other_stage() -> Toy:
    class Another(torch.nn.Module):
        saved = property(lambda self: self.toy.saved)

        def __init__(self):
            super().__init__()
            self.toy = Toy()

    return Another()  # type: ignore[return-value]


def test_a_run_is_gone_on_with_as_it_was_begun(tmp_path, data):
    folder = tmp_path / "run"
    settings = {"recipe": "toy", "loss": {"pixels": 1.0, "codes": 0.25}}
    train(Toy(), data, folder=folder, settings=settings, **RUN)
    before = _tree(folder / "checkpoints")
    faster = Toy()
    for group in faster.optimizer.param_groups:
        group["lr"] *= 10
    cases = [
        (faster, settings, r"optimizers.optimizer.0.lr was [0-9.e-]+ and is [0-9.e-]+"),
        (_other_stage(), settings, "stage was Toy and is .*Another"),
        (Toy(), {**settings, "recipe": "other"}, 'settings.recipe was "toy" and is "other"'),
        (Toy(), {**settings, "loss": {"pixels": 1.0}}, "settings.loss.codes was 0.25 and is absent"),
        (Toy(), {**settings, "more": 1}, "settings.more was absent and is 1"),
    ]
    for stage, given, reason in cases:
        with pytest.raises(ValueError, match=reason):
            train(stage, data, folder=folder, settings=given, **{**RUN, "steps": 8})
    assert _tree(folder / "checkpoints") == before
    # the folder is free again, and what may change is logged
    assert train(Toy(), data, folder=folder, settings=settings, **{**RUN, "steps": 6, "log_every": 1}) == (6, True)
    resumed = [line for line in Log(folder / "log.jsonl").read() if line.get("event") == "resumed"][-1]
    assert resumed["changed"] == {"steps": [4, 6], "log_every": [2, 1]}


def test_an_image_of_the_same_size_in_bytes_is_noticed(tmp_path):
    faces = write_faces(tmp_path / "faces")
    folder = tmp_path / "run"
    train(Toy(), stream(faces), folder=folder, **RUN)
    path = sorted(Path(tmp_path / "faces").rglob("*.png"))[0]
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="other data|cannot be used"):
        train(Toy(), stream(faces), folder=folder, **{**RUN, "steps": 6})


def test_differences_name_each_value_and_stop_at_five():
    old = made(Toy(), {str(number): number for number in range(9)})
    assert differences(old, old) == []
    new = made(Toy(), {str(number): -number for number in range(9)})
    lines = differences(old, new)
    assert lines[0] == "settings.1 was 1 and is -1"
    assert lines[-1] == "and 3 more"
    # a caller that names no settings is not refused for it
    assert differences(old, made(Toy(), None)) == []


@dataclass(frozen=True)
class _Net:
    width: int = 8
    taps: str = "shared"


@dataclass(frozen=True)
class _Recipe:
    steps: int
    rate: float = 0.1
    revive_below: float = 0.0
    weights: dict = field(default_factory=lambda: {"pixels": 1.0})
    net: _Net = field(default_factory=_Net)


def test_a_field_that_a_recipe_has_gained_counts_as_its_default(tmp_path, data):
    settings = Settings(_Recipe(steps=4), "toy", without=("steps",))
    recorded = settings.values()
    assert recorded == {
        "recipe": "toy", "rate": 0.1, "revive_below": 0.0, "weights": {"pixels": 1.0},
        "net": {"width": 8, "taps": "shared"},
    }  # fmt: skip
    # what an earlier version recorded, before the recipe had these fields
    del recorded["revive_below"], recorded["net"]["taps"]
    folder = tmp_path / "run"
    train(Toy(), data, folder=folder, settings=recorded, **RUN)
    for changes, reason in (
        ({"revive_below": 0.5}, r"settings.revive_below was 0.0 \(not recorded, so its default\) and is 0.5"),
        ({"net": _Net(taps="own")}, r'settings.net.taps was "shared" \(not recorded, so its default\) and is "own"'),
        ({"rate": 0.2}, r"settings.rate was 0.1 and is 0.2"),
        # loss weights are recorded whole: one that is not there was not there
        ({"weights": {"pixels": 1.0, "codes": 1.0}}, r"settings.weights.codes was absent and is 1.0"),
    ):
        now = Settings(replace(_Recipe(steps=6), **changes), "toy", without=("steps",))
        with pytest.raises(ValueError, match=reason):
            train(Toy(), data, folder=folder, settings=now, **{**RUN, "steps": 6})
    now = Settings(_Recipe(steps=6), "toy", without=("steps",))
    assert train(Toy(), data, folder=folder, settings=now, **{**RUN, "steps": 6}) == (6, True)


def test_a_run_goes_on_with_an_optimiser_that_computes_in_another_way(tmp_path, data):
    train(Toy(), data, folder=tmp_path / "run", **RUN)
    fused = Toy()
    fused.optimizer = torch.optim.Adam(fused.net.parameters(), lr=1e-2, betas=(0.5, 0.9), fused=True)
    assert train(fused, data, folder=tmp_path / "run", **{**RUN, "steps": 6}) == (6, True)


NAMES = (
    "step-1", "step-²", "step-00000003 (copy)", "step-", "step-0000000a", "step--0000001", "step-00000001.bak",
    "step-١٢٣٤٥٦٧٨", ".part-step-mine", ".part-step-00000001-mine", ".gone-step-", "notes",
    "step-000000000000000000001",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_folders_of_the_users_own_stay_and_are_no_checkpoints(name, tmp_path):
    for inner in ("step-00000001", name):
        (tmp_path / inner).mkdir()
        (tmp_path / inner / "mine.safetensors").write_bytes(b"mine")
    checkpoints = Checkpoints(tmp_path, keep=1)
    for step in (10, 20, 30):
        checkpoints.save(step, {"net": torch.nn.Linear(2, 2)})
    assert (tmp_path / name / "mine.safetensors").read_bytes() == b"mine"
    assert (tmp_path / "step-00000001" / "mine.safetensors").read_bytes() == b"mine"
    assert checkpoints.steps() == [1, 30]
    found = checkpoints.resume({"net": torch.nn.Linear(2, 2)})
    assert found is not None and found.step == 30


def test_a_folder_of_the_users_own_in_the_way_is_put_aside(tmp_path):
    (tmp_path / "step-00000010").mkdir()
    (tmp_path / "step-00000010" / "mine").write_bytes(b"mine")
    place = Checkpoints(tmp_path).save(10, {"net": torch.nn.Linear(2, 2)})
    verify(place)
    (kept,) = tmp_path.glob("kept-step-00000010-*")
    assert (kept / "mine").read_bytes() == b"mine"


@pytest.mark.parametrize("prefix", [".part-step-00000001", ".gone-step-00000001", ".part-step-00000001-" + "0" * 16])
@pytest.mark.parametrize("kind", ["link to a folder", "link inside", "folder inside", "foreign file inside"])
def test_sweeping_follows_no_link_and_takes_only_what_is_ours(prefix, kind, tmp_path):
    outside, folder = tmp_path / "outside", tmp_path / "checkpoints"
    outside.mkdir()
    folder.mkdir()
    (outside / "net.safetensors").write_bytes(b"mine")
    if kind == "link to a folder":
        (folder / prefix).symlink_to(outside)
    else:
        (folder / prefix).mkdir()
        (folder / prefix / "manifest.json").write_bytes(b"{}")
        inside = folder / prefix / "net.safetensors"
        if kind == "link inside":
            inside.symlink_to(outside / "net.safetensors")
        elif kind == "folder inside":
            inside.mkdir()
        else:
            (folder / prefix / "thesis.txt").write_bytes(b"mine")
    Checkpoints(folder).save(1, {"net": torch.nn.Linear(2, 2)})
    assert (outside / "net.safetensors").read_bytes() == b"mine"
    assert kind != "foreign file inside" or (folder / prefix / "thesis.txt").read_bytes() == b"mine"


@pytest.mark.parametrize("sound", [True, False])
def test_a_checkpoint_that_was_moved_and_linked_back_is_used_and_never_emptied(sound, tmp_path):
    folder, away = tmp_path / "checkpoints", tmp_path / "away"
    checkpoints = Checkpoints(folder, keep=1)
    net = torch.nn.Linear(2, 2)
    place = checkpoints.save(1, {"net": net})
    os.rename(place, away)
    place.symlink_to(away)
    found = Checkpoints(folder).resume({"net": net})
    assert found is not None and found.step == 1
    if not sound:
        (away / "net.safetensors").write_bytes(b"")
    before = _tree(away)
    for step in (1, 2, 3, 4):
        Checkpoints(folder, keep=1).save(step, {"net": net})
    assert _tree(away) == before
    assert Checkpoints(folder).steps()[-1] == 4


def test_a_file_beside_a_checkpoint_survives_its_removal(tmp_path):
    checkpoints, net = Checkpoints(tmp_path, keep=1), torch.nn.Linear(2, 2)
    place = checkpoints.save(1, {"net": net})
    (place / "notes.txt").write_bytes(b"mine")
    checkpoints.save(2, {"net": net})
    (kept,) = tmp_path.glob("kept-step-00000001-*/notes.txt")
    assert kept.read_bytes() == b"mine"
    assert checkpoints.steps() == [2]


def _forge(place: Path, change) -> None:
    text = (place / "manifest.json").read_bytes().split(b"\n")[1]
    body = json.dumps(change(json.loads(text))).encode()
    (place / "manifest.json").write_bytes(hashlib.sha256(body).hexdigest().encode() + b"\n" + body + b"\n")


ODD = {
    "a list": lambda body: [body], "null": lambda body: None, "a number": lambda body: 1, "empty": lambda body: {},
    "no files": lambda body: {k: v for k, v in body.items() if k != "files"},
    "no notes": lambda body: {k: v for k, v in body.items() if k != "notes"},
    "notes list": lambda body: body | {"notes": []}, "files list": lambda body: body | {"files": []},
    "files of numbers": lambda body: body | {"files": dict.fromkeys(body["files"], 1)},
    "bytes text": lambda body: body | {"files": {n: f | {"bytes": "1"} for n, f in body["files"].items()}},
    "skeletons fewer": lambda body: body | {"skeletons": {}}, "skeletons list": lambda body: body | {"skeletons": []},
    "skeletons odd": lambda body: body | {"skeletons": {key: {"tensor": 5} for key in body["skeletons"]}},
    "step text": lambda body: body | {"step": "1"}, "score text": lambda body: body | {"score": "best"},
    "world null": lambda body: body | {"world": None},
    "name outside": lambda body: body | {
        "files": body["files"] | {"../../outside": next(iter(body["files"].values()))},
        "skeletons": body["skeletons"] | {"../../outside": {}},
    },
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_odd_manifests_with_the_right_sum_are_passed_over(name, tmp_path):
    net = torch.nn.Linear(2, 2)
    for step in (1, 2):
        Checkpoints(tmp_path).save(step, {"net": net})
    _forge(tmp_path / "step-00000002", ODD[name])
    found = Checkpoints(tmp_path).resume({"net": net})
    assert found is not None and found.step == 1
    assert "step-00000002" in found.passed[0]
    Checkpoints(tmp_path).save(3, {"net": net})


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "null",
        "1",
        '"text"',
        "{}",
        '{"step": "1"}',
        '{"step": 1}',
        '{"step": null, "time": "x"}',
        "[" * 5000,
        "\x00",
    ],
)
def test_odd_lines_of_a_log_are_passed_over(line, tmp_path, data):
    folder = tmp_path / "run"
    train(Toy(), data, folder=folder, **RUN)
    with (folder / "log.jsonl").open("a") as file:
        file.write(line + "\n")
    assert all(type(one["step"]) is int for one in Log(folder / "log.jsonl").read())
    write_report(folder)
    assert train(Toy(), data, folder=folder, **{**RUN, "steps": 6}) == (6, True)


@pytest.mark.parametrize("name", ["log.jsonl", "report.html"])
def test_outputs_of_a_run_follow_no_link(name, tmp_path, data):
    outside, folder = tmp_path / "outside", tmp_path / "run"
    outside.write_bytes(b"mine")
    folder.mkdir()
    (folder / name).symlink_to(outside)
    with contextlib.suppress(OSError):
        train(Toy(), data, folder=folder, **RUN)
    assert outside.read_bytes() == b"mine"


def test_a_run_ends_with_the_same_bits_whatever_lies_in_its_folder(tmp_path, data):
    clean = Toy()
    train(clean, data, folder=tmp_path / "clean", **RUN)
    for name in ("checkpoints/step-1", "checkpoints/.part-step-x", "previews/mine", "mine"):
        (tmp_path / "full" / name).mkdir(parents=True)
    full = Toy()
    train(full, data, folder=tmp_path / "full", **RUN)
    assert digest(clean.net) == digest(full.net)
    assert all((tmp_path / "full" / name).is_dir() for name in ("checkpoints/step-1", "previews/mine", "mine"))

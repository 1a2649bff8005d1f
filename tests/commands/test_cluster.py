"""`--ray`: photographs spread over a local cluster; a worker that is killed in the middle loses none of them."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codeprior.__main__ import main
from codeprior.commands._cluster import _read, _Worker, _written
from codeprior.commands._jobs import Job
from codeprior.commands._words import parser_of
from tests.photos.making import scene

ROOT = Path(__file__).resolve().parents[2]


def _photographs(folder: Path, count: int) -> list[str]:
    folder.mkdir()
    for number in range(count):
        Image.fromarray(np.roll(scene(160, 160), number, 1)).save(folder / f"{number:03}.png")
    return sorted(path.name for path in folder.iterdir())


def _lines(report: Path) -> dict[str, dict]:
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    found = {Path(line["input"]).name: line for line in lines}
    assert len(found) == len(lines), "a photograph is reported once"
    return found


def test_a_job_survives_the_way_to_a_worker():
    job = Job(Path("a/\udcff b.jpg"), Path("out/ü.png"), stem="ü", relative=Path("a"))
    assert _read(_written(job)) == job


@pytest.mark.parametrize("command", ["restore", "degrade"])
def test_without_ray_the_extra_is_named(command, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    _photographs(tmp_path / "in", 1)
    assert main([command, str(tmp_path / "in"), str(tmp_path / "out"), "--ray", "local"]) == 2
    assert "pip install 'codeprior[ray]'" in capsys.readouterr().err
    assert not list(tmp_path.glob("out/*"))


def test_degrade_goes_on_where_it_stopped(tmp_path, capsys):
    names = _photographs(tmp_path / "in", 2)
    call = ["degrade", str(tmp_path / "in"), str(tmp_path / "out"), "--resume", "--report", str(tmp_path / "r.jsonl")]
    assert main(call) == 0
    (tmp_path / "out" / names[1]).unlink()
    assert main(call) == 0
    assert "1 degraded with daefr, 0 failed, 1 done before" in capsys.readouterr().err
    assert len((tmp_path / "r.jsonl").read_text().splitlines()) == 3


@pytest.mark.slow
def test_a_killed_worker_loses_nothing(tmp_path):
    pytest.importorskip("ray")
    psutil = pytest.importorskip("psutil")
    names = _photographs(tmp_path / "in", 48)
    (tmp_path / "in" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n cut off")
    words = ["restore", "in", "out", "--aligned", "--always", "--quiet", "--report", "report.jsonl", "--ray", "local"]
    # Ray's workers give way to everything else of a machine, and on a busy one they would never begin
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}
    log = (tmp_path / "log").open("w")
    asking = subprocess.Popen(
        [sys.executable, "-m", "codeprior", *words, "--ray-workers", "2"], cwd=tmp_path, env=environment, stderr=log
    )
    killed = None
    while asking.poll() is None and killed is None:
        if 4 <= len(list((tmp_path / "out").glob("*.png"))) < 40:
            for process in psutil.Process(asking.pid).children(recursive=True):
                if "MapWorker" in " ".join(process.cmdline()):
                    killed = process.pid
                    os.kill(killed, signal.SIGKILL)
                    break
        time.sleep(0.02)
    assert asking.wait(540) == 3, (tmp_path / "log").read_text()  # the bad one failed, and nothing else
    assert killed is not None, "no worker was seen while there was work left"
    found = _lines(tmp_path / "report.jsonl")
    assert {name for name, line in found.items() if line["status"] == "restored"} == set(names)
    assert found["bad.png"]["status"] == "failed" and "bad.png" in (tmp_path / "log").read_text()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    for name in names:
        Image.open(tmp_path / "out" / name).load()


@pytest.mark.slow
def test_degrading_on_a_cluster_gives_the_pictures_of_one_machine(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_worker_niceness", "0")
    names = _photographs(tmp_path / "in", 20)
    plain = ["degrade", str(tmp_path / "in")]
    assert main([*plain, str(tmp_path / "one")]) == 0
    assert main([*plain, str(tmp_path / "two"), "--ray", "local", "--report", str(tmp_path / "r.jsonl")]) == 0
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert set(_lines(tmp_path / "r.jsonl")) == set(names)
    assert main([*plain, str(tmp_path / "two"), "--ray", "local"]) == 3, "what is there is kept"


def _arguments(*words):
    """Gives the arguments of a command line, as `codeprior` parses them."""
    return parser_of([str(words[0])]).parse_args([*map(str, words)])


@pytest.mark.parametrize("command", ["restore", "degrade"])
def test_a_worker_begins_where_the_command_was_given(command, tmp_path, monkeypatch):
    module = import_module(f"codeprior.commands.{command}")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "here").mkdir()
    _photographs(tmp_path / "here" / "in", 1)
    # a file of the same name, where the cluster was started
    _photographs(tmp_path / "elsewhere" / "in", 1)
    monkeypatch.chdir(tmp_path / "elsewhere")
    more = ["--aligned"] if command == "restore" else []
    make = partial(
        module._on_a_worker, _arguments(command, "in", "out", *more), *([{}] if command == "restore" else [])
    )
    job = Job(Path("in/000.png"), Path("out/000.png"), stem="000", relative=Path("000.png"))
    (tmp_path / "here" / "out").mkdir()
    found = _Worker(make, str(tmp_path / "here"))({"job": [_written(job)], "number": [7]})
    assert found["number"] == [7] and json.loads(found["entry"][0])["status"] in ("restored", "degraded", "untouched")
    assert (tmp_path / "here" / "out" / "000.png").exists() and not (tmp_path / "elsewhere" / "out").exists()


def test_a_worker_that_does_not_see_the_folder_refuses_what_is_relative_to_it(tmp_path):
    asked = []

    def work(jobs):
        asked.extend(jobs)
        return ((job, {"status": "restored", "reason": None}) for job in jobs)

    near, far = Job(Path("a.png"), Path("/out/a.png")), Job(Path("/in/b.png"), Path("/out/b.png"))
    done = _Worker(lambda: work, str(tmp_path / "gone"))({"job": [_written(near), _written(far)], "number": [0, 1]})
    said = dict(zip(done["number"], map(json.loads, done["entry"]), strict=True))
    assert said[0]["status"] == "failed" and "does not see the folder" in said[0]["reason"]
    assert said[1]["status"] == "restored" and asked == [far]


@pytest.mark.parametrize("command", ["restore", "degrade"])
def test_a_worker_writes_through_no_link_and_over_no_file_of_somebody_else(command, tmp_path):
    module = import_module(f"codeprior.commands.{command}")
    _photographs(tmp_path / "in", 3)
    (tmp_path / "out").mkdir()
    (tmp_path / "theirs.png").write_bytes((tmp_path / "in" / "000.png").read_bytes())
    (tmp_path / "out" / "000.png").symlink_to(tmp_path / "theirs.png")
    (tmp_path / "out" / "001.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "out" / "002.png").mkdir()
    kept = (tmp_path / "theirs.png").read_bytes()
    words = [command, tmp_path / "in", tmp_path / "out", *(["--aligned"] if command == "restore" else [])]
    made = module._on_a_worker(_arguments(*words), *([{}] if command == "restore" else []))
    names = ("000.png", "001.png", "002.png")
    jobs = [Job(tmp_path / "in" / name, tmp_path / "out" / name, stem=name[:3], relative=Path(name)) for name in names]
    entries = {job.source.name: entry for job, entry in made(jobs)}
    assert {name: entry["status"] for name, entry in entries.items()} == dict.fromkeys(names, "failed"), entries
    assert (tmp_path / "theirs.png").read_bytes() == kept and not (tmp_path / "nowhere.png").exists()
    assert (tmp_path / "out" / "000.png").is_symlink()


def test_degrading_again_what_a_dead_worker_wrote_is_no_failure_and_another_file_is_kept(tmp_path):
    from codeprior.commands.degrade import _on_a_worker

    names = _photographs(tmp_path / "in", 2)
    assert main(["degrade", str(tmp_path / "in"), str(tmp_path / "out")]) == 0
    written = (tmp_path / "out" / names[0]).read_bytes()
    theirs = (tmp_path / "in" / names[1]).read_bytes()
    (tmp_path / "out" / names[1]).write_bytes(theirs)
    made = _on_a_worker(_arguments("degrade", tmp_path / "in", tmp_path / "out"))
    jobs = [Job(tmp_path / "in" / name, tmp_path / "out" / name, stem=name[:3], relative=Path(name)) for name in names]
    assert [entry["status"] for _, entry in made(jobs)] == ["degraded", "failed"]
    assert (tmp_path / "out" / names[0]).read_bytes() == written
    assert (tmp_path / "out" / names[1]).read_bytes() == theirs


def test_two_photographs_with_one_result_are_refused_before_a_worker_sees_them(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("codeprior.commands.degrade.spread", lambda jobs, *_, **__: ((job, {
        "input": str(job.source), "output": str(job.target), "status": "degraded", "reason": None,
    }) for job in jobs))  # fmt: skip
    pytest.importorskip("ray")
    for folder in ("one", "two"):
        _photographs(tmp_path / folder, 1)
    words = ["degrade", str(tmp_path / "one"), str(tmp_path / "two"), str(tmp_path / "out"), "--ray", "local"]
    assert main([*words, "--report", str(tmp_path / "r.jsonl")]) == 3
    assert "would be that of" in capsys.readouterr().err
    said = [json.loads(line)["status"] for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert sorted(said) == ["degraded", "failed"]

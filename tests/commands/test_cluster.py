"""`--ray`: photographs spread over a local cluster; a worker that is killed in the middle loses none of them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codeprior.__main__ import main
from codeprior.commands._cluster import _read, _written
from codeprior.commands._jobs import Job
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

"""`codeprior restore` killed at random moments: each output whole or absent, and a resumed run completes them."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from tests.photos.corpus import scene

# importing torch takes longer than restoring, so every run is forked from a process that has done it
_ZYGOTE = """
import os, sys
import torch
torch.set_num_threads(1)
import tqdm, codeprior.recipes.daefr.model, codeprior.commands.restore, codeprior.commands._restoring
import codeprior.discriminators, codeprior.photos.stream
from codeprior.__main__ import main
print("ready", flush=True)
while line := sys.stdin.readline():
    child = os.fork()
    if child == 0:
        os._exit(main(["restore", *line.rstrip("\\n").split("\\t")]))
    print(child, flush=True)
    sys.stdin.readline()  # only now may the child's number become another's
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class _Runs:
    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, "-c", _ZYGOTE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert self.process.stdout is not None and self.process.stdin is not None
        self.said, self.told = self.process.stdout, self.process.stdin
        assert self.said.readline() == "ready\n"

    def run(self, words: list[str], *, killed_after: float | None = None) -> int:
        self.told.write("\t".join(words) + "\n")
        child = int(self.said.readline())
        if killed_after is not None:
            time.sleep(killed_after)
            os.kill(child, signal.SIGKILL)
        self.told.write("\n")
        return int(self.said.readline())

    def end(self) -> None:
        self.told.close()
        self.process.wait()


def _killed(tmp_path: Path, weights: Path, kills: int) -> int:
    folder, out, truth = tmp_path / "in", tmp_path / "out", tmp_path / "truth"
    folder.mkdir()
    for index in range(6):
        Image.fromarray(scene(90 + index, 90)).save(folder / f"{index:02}.png")
    (folder / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    common = ["--weights", str(weights), "--aligned", "--always", "--quiet", "--compare"]
    common += ["--batch", "1"]  # which photographs share a batch is a matter of time, and moves the last bits
    runs = _Runs()
    started = time.monotonic()
    assert runs.run([str(folder), str(truth), *common]) == 3
    length = time.monotonic() - started
    expected = {path.name: path.read_bytes() for path in truth.iterdir()}
    assert len(expected) == 12
    draw, partly = random.Random(0), 0
    words = [str(folder), str(out), *common, "--resume", "--report", str(tmp_path / "report.jsonl")]
    for _ in range(kills):
        status = runs.run(words, killed_after=draw.uniform(0, length))
        assert status in (-signal.SIGKILL, 3)
        there = [path for path in out.iterdir() if not path.name.startswith(".")] if out.exists() else []
        assert all(path.read_bytes() == expected[path.name] for path in there)
        partly += 0 < len(there) < 12
        if len(there) == 12:  # begin again, so that the next kills hit something
            for path in there:
                path.unlink()
    assert runs.run(words) == 3
    runs.end()
    assert {path.name: path.read_bytes() for path in out.iterdir()} == expected  # and no partial file is left
    return partly


def test_killed_restorations_leave_whole_results_or_none(tmp_path, weights):
    _killed(tmp_path, weights, 3)


@pytest.mark.slow
def test_fifty_killed_restorations_leave_whole_results_or_none(tmp_path, weights):
    assert _killed(tmp_path, weights, 50) >= 10

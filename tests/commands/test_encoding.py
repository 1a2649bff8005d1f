"""A terminal that knows ASCII alone ends no command, and a file's name need not be text."""

import os
import subprocess
import sys

import pytest
from PIL import Image

from tests.photos.making import scene


def _run(*words: str, cwd) -> subprocess.CompletedProcess:
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-X", "utf8=0", "-W", "ignore", "-m", "codeprior", *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, timeout=300)


@pytest.mark.parametrize("command", ["degrade", "convert", "restore"])
def test_help_is_shown_in_ascii(command, tmp_path):
    done = _run(command, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii() and b"usage: codeprior" in done.stdout


def test_a_name_beyond_ascii_is_degraded(tmp_path):
    Image.fromarray(scene(64, 64)).save(tmp_path / "fotö ä.png")
    done = _run("degrade", "fotö ä.png", "out", "--report", "report.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "fotö ä.png").is_file() and (tmp_path / "report.jsonl").stat().st_size

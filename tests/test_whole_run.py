"""`.ci/run` with a `make` that only notes what it was asked: the order of steps, and what lies on the disk."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAKE = """#!/usr/bin/env bash
for word in "$@"; do case $word in VENV=*|DEMO=*) made=${word#*=} ;; --*) ;; *) target=$word ;; esac; done
mkdir -p "$made/bin"
printf '#!/bin/sh\\nexit 0\\n' > "$made/bin/python"
chmod +x "$made/bin/python"
echo "$target" $(ls -d .venv-*) >> told
if [ "$target" = demo ]; then mkdir demo; echo '{}' > demo/figures.json; touch demo/sheet.png; fi
if [ "$target" = "$FAILS" ]; then exit 3; fi
echo "7 passed in 1.00s"
"""


def whole_run(tmp_path, fails=""):
    """Runs a copy of the script; gives its exit status, the targets in order, and what each found on the disk."""
    (tmp_path / ".ci").mkdir()
    shutil.copy2(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "make").write_text(MAKE)
    (programs / "make").chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "FAILS": fails}
    ended = subprocess.run([tmp_path / ".ci" / "run"], env=environment, capture_output=True, text=True, timeout=60)
    told = [line.split() for line in (tmp_path / "told").read_text().splitlines()]
    return ended, [target for target, *_ in told], [environments for _, *environments in told]


@pytest.mark.skipif(shutil.which("bash") is None, reason="the script is for bash")
class TestWholeRun:
    def test_has_one_environment_on_the_disk_at_a_time(self, tmp_path):
        ended, targets, environments = whole_run(tmp_path)
        assert ended.returncode == 0, ended.stderr
        assert targets == ["environment", "lint", "test", "docs", ".venv-ci-demo/.codeprior-photos", "demo"]
        assert environments == 4 * [[".venv-ci"]] + 2 * [[".venv-ci-demo"]]
        assert not list(tmp_path.glob(".venv-*"))
        assert "7 passed" in ended.stdout.splitlines()[-1]

    @pytest.mark.parametrize("fails", ["lint", "test", "docs", "demo"])
    def test_fails_where_a_step_fails_and_leaves_no_environment(self, tmp_path, fails):
        ended, targets, _ = whole_run(tmp_path, fails)
        assert ended.returncode != 0
        assert targets[-1] == fails
        assert not list(tmp_path.glob(".venv-*"))


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
class TestDemo:
    @pytest.mark.parametrize("tested", [False, True])
    def test_takes_the_environment_of_the_tests_where_it_stands(self, tmp_path, tested):
        shutil.copy2(ROOT / "Makefile", tmp_path)
        (tmp_path / "pyproject.toml").touch()
        if tested:
            (tmp_path / ".venv-test").mkdir()
            (tmp_path / ".venv-test" / ".codeprior-all").touch()
        # what the make that runs these tests was given is not for this one
        mine = {name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "VENV"}
        run = subprocess.run(["make", "-n", "demo"], cwd=tmp_path, env=mine, capture_output=True, text=True, check=True)
        environment = ".venv-test" if tested else ".venv-demo"
        assert run.stdout.splitlines()[-1] == f"{environment}/bin/codeprior demo --out demo"

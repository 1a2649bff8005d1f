"""An installation that somebody else made: no file of it may be changed, and there is no home to keep anything in.

Read-only containers and machines with many users are such places.
"""

import ctypes
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.photos.making import scene

ROOT = Path(__file__).resolve().parents[1]
_PROGRAM = """
import json, os, sys
import codeprior, codeprior.recipes
from codeprior.__main__ import main
try:
    open(os.path.join(os.path.dirname(codeprior.__file__), "written"), "w")
    can_write = True
except OSError:
    can_write = False
status = {words[0]: main(words) for words in map(str.split, sys.argv[1:])}
places = [codeprior.__file__, codeprior.recipes.__file__]
print(json.dumps({"status": status, "can write": can_write, "places": places}), file=sys.stderr)
"""


def _without_rights() -> None:
    # root may write anywhere by a capability; without it root is a user as any other
    if os.geteuid() == 0:
        library = ctypes.CDLL(None)
        for capability in range(64):
            library.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP; what the next program may have at most


def _closed(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        path.chmod(path.stat().st_mode & 0o555)


def _opened(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)


_QUICK = (
    "impls",
    "restore in restored --aligned --quiet --report restored.jsonl",
    "inspect in --aligned --report inspected.jsonl",
)
_COMPILING = ("degrade in degraded --preset daefr --seed 1",)  # half a minute, as numba keeps nothing


@pytest.mark.parametrize("commands", [_QUICK, pytest.param(_COMPILING, marks=pytest.mark.slow)], ids=["quick", "numba"])
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a process gives up its rights by a call of Linux")
def test_everything_works_where_nothing_may_be_kept(commands, tmp_path):
    site, home, work = (tmp_path / name for name in ("site", "home", "work"))
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "codeprior", site / "codeprior", ignore=ignored)
    shutil.copytree(ROOT / "examples", site / "codeprior" / "recipes", ignore=ignored, dirs_exist_ok=True)
    home.mkdir()
    (work / "in").mkdir(parents=True)
    Image.fromarray(scene(128, 128)).save(work / "in" / "a.png")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("CODEPRIOR_", "XDG_", "NUMBA_"))}
    environment = kept | {"HOME": str(home), "PYTHONPATH": str(site), "TQDM_DISABLE": "1"}
    _closed(site)
    _closed(home)
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _PROGRAM, *commands], cwd=work, env=environment, timeout=580,
            capture_output=True, text=True, preexec_fn=_without_rights, check=False,
        )  # fmt: skip
    finally:
        _opened(tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stderr.strip().splitlines()[-1])
    assert all(Path(place).is_relative_to(site) for place in told["places"]) and not told["can write"]
    assert told["status"] == {words.split()[0]: 0 for words in commands}, done.stderr
    assert not list(home.iterdir()) and not list(site.rglob("__pycache__"))
    if commands is _COMPILING:
        assert (work / "degraded" / "a.png").exists()
        return
    # the reason why the compiled kernels are not used is said
    assert "Permission denied" in done.stdout
    assert json.loads((work / "restored.jsonl").read_text())["status"] in ("restored", "untouched")
    assert np.asarray(Image.open(work / "restored" / "a.png")).shape == (128, 128, 3)
    assert json.loads((work / "inspected.jsonl").read_text())["status"] == "inspected"

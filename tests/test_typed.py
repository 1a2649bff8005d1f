"""The front door is typed: a type checker finds mistakes in a user's file, with an editable install and a wheel."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import codeprior
from tests.test_packages import ROOT, clean_copy, installed  # noqa: F401

_MISTAKES = {
    'cp.to_signed("photo.png")': "reportArgumentType",
    'cp.VQGANEncoder(dim="256")': "reportArgumentType",
    "cp.Codebook(1024)": "reportCallIssue",
    'teacher.prior(frozen="decoder")': "reportArgumentType",
    'cp.load("a.safetensors", devise="cuda")': "reportCallIssue",
    "cp.VQGANDecodr(256)": "reportAttributeAccessIssue",
    'cp.load_restorer("small").photo("a.png")': "reportAttributeAccessIssue",
    "cp.codebooks.Codebok": "reportAttributeAccessIssue",
}
_RIGHT = (
    "import torch\n"
    "import codeprior as cp\n"
    "teacher = cp.VQGAN(cp.VQGANEncoder(32), cp.MovingAverageCodebook(64, 32), cp.VQGANDecoder(32))\n"
    "restored = cp.load_restorer('small', batch=4)(torch.zeros(1, 3, 128, 128), fidelity=0.5)\n"
    "image: torch.Tensor = teacher.prior(frozen='codebook').decode(teacher.encode(torch.zeros(1, 3, 32, 32)).values)\n"
    "damaged = cp.degradations.preset('daefr')\n"
)


def _found(folder: Path, library: Path) -> dict[int, str]:
    """Gives line and rule of what pyright finds in a user's file, with the library found in one folder only."""
    lines = [*_RIGHT.splitlines(), *_MISTAKES]
    (folder / "user.py").write_text("\n".join(lines) + "\n")
    settings = {"extraPaths": [str(library)], "reportMissingModuleSource": "none", "typeCheckingMode": "basic"}
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson", "user.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.stdout, done.stderr
    reports = json.loads(done.stdout)["generalDiagnostics"]
    return {
        one["range"]["start"]["line"] - len(_RIGHT.splitlines()): one.get("rule", one["message"]) for one in reports
    }


def test_an_editable_install_is_a_path_that_type_checkers_follow(tmp_path):
    copy = clean_copy(tmp_path)
    build = "import sys, setuptools.build_meta as b; b.build_editable(sys.argv[1])"
    command = [sys.executable, "-W", "ignore", "-c", build, str(tmp_path)]
    subprocess.run(command, cwd=copy, check=True, capture_output=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    subprocess.run([sys.executable, "-m", "zipfile", "-e", str(wheel), str(site)], check=True, timeout=60)
    (path,) = site.glob("*.pth")
    assert path.read_text().strip() == str(copy)
    assert not list(site.glob("*finder*"))
    code = "import codeprior.recipes.daefr as daefr; print(daefr.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=copy, capture_output=True, text=True, timeout=120, check=True
    )
    assert Path(done.stdout.strip()) == copy / "examples" / "daefr" / "__init__.py"


def test_a_type_checker_finds_every_planted_mistake_and_nothing_else(tmp_path):
    pytest.importorskip("pyright")
    assert _found(tmp_path, ROOT) == dict(enumerate(_MISTAKES.values()))


@pytest.mark.slow
def test_a_type_checker_finds_them_with_a_wheel(tmp_path, installed):  # noqa: F811
    pytest.importorskip("pyright")
    assert _found(tmp_path, installed) == dict(enumerate(_MISTAKES.values()))


def test_the_stub_says_what_the_front_door_opens():
    tree = ast.parse((ROOT / "codeprior" / "__init__.pyi").read_text())
    said: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            assert node.level == 1 and all(alias.name == alias.asname for alias in node.names)
            said |= {alias.name: node.module or "" for alias in node.names}
    assert said == codeprior._PUBLIC | dict.fromkeys(codeprior._ROOMS, "")

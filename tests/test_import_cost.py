"""`import codeprior` stays light: what is heavy loads when something needs it."""

import subprocess
import sys
from pathlib import Path

import pytest

import codeprior

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("triton", "timm", "torchvision", "vector_quantize_pytorch", "cv2", "skimage", "matplotlib", "mtcnn_runtime")


def _loaded_after(code: str) -> set[str]:
    """Gives the top-level modules that a fresh interpreter holds after running the code."""
    show = "import sys; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    command = [sys.executable, "-W", "error", "-c", f"{code}\n{show}"]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    return set(finished.stdout.split())


def test_importing_the_library_loads_nothing_heavy():
    assert not _loaded_after("import codeprior") & {*HEAVY, "torch"}


def test_importing_the_rooms_loads_no_optional_package():
    rooms = ("images", "shapes", "layers", "encoders", "codebooks", "losses", "degradations", "prior", "training")
    loaded = _loaded_after(f"import {', '.join('codeprior.' + room for room in rooms)}")
    assert not loaded & {"timm", "torchvision", "vector_quantize_pytorch", "skimage", "matplotlib", "mtcnn_runtime"}


def test_presets_are_read_without_what_runs_them():
    loaded = _loaded_after("from codeprior.degradations import preset; print(preset('daefr'))")
    assert not loaded & {"cv2", "numba", "llvmlite", "triton", "scipy"}


def test_loading_a_restorer_does_not_load_the_compiler_of_pytorch():
    code = "import codeprior as cp, sys; cp.load_restorer('small'); assert 'torch._dynamo' not in sys.modules"
    assert "sympy" not in _loaded_after(code)


def test_the_command_line_says_its_help_without_torch():
    loaded = _loaded_after("import contextlib, io, codeprior.__main__")
    assert "torch" not in loaded


def test_a_name_that_is_not_there_is_named():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        codeprior.nothing  # noqa: B018

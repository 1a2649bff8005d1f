"""`import codeprior` stays light: what is heavy loads when something needs it."""

import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("room", ["images", "shapes", "layers", "encoders", "codebooks", "losses", "degradations"])
def test_importing_a_room_loads_no_optional_package(room):
    loaded = _loaded_after(f"import codeprior.{room}")
    # torch itself loads triton's absence check at most; the rooms must not load the others at all
    assert not loaded & {"timm", "torchvision", "vector_quantize_pytorch", "skimage", "matplotlib"}


def test_the_command_line_says_its_help_without_torch():
    loaded = _loaded_after("import contextlib, io, codeprior.__main__")
    assert "torch" not in loaded


def test_every_public_name_can_be_fetched():
    loaded = _loaded_after("import codeprior as cp\nfor name in cp.__all__: getattr(cp, name)")
    assert "codeprior" in loaded


def test_a_name_that_is_not_there_is_named():
    code = "import codeprior\ntry: codeprior.nothing\nexcept AttributeError as error: assert 'nothing' in str(error)"
    assert "codeprior" in _loaded_after(code)

"""Finds the faces and fixtures that live beside the repository."""

import os
from pathlib import Path

import pytest

_ROOT = Path(os.environ.get("CODEPRIOR_SHARED") or Path(__file__).resolve().parents[1].parent / "shared")


def shared_path(relative: str) -> Path:
    """Gives a path of the shared folder; skips the test where it is absent, and fails it in CI."""
    path = _ROOT / relative
    if not path.exists():
        reason = f"{relative} is not in the shared folder; set CODEPRIOR_SHARED to the folder that holds it"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path

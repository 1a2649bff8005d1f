"""Without a GPU the shipped kernels run in Triton's interpreter, asked for before Triton is imported."""

import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture(autouse=True, scope="session")
def compiled_code(tmp_path_factory):
    """The compiled lookup needs a folder that was chosen for it."""
    with pytest.MonkeyPatch.context() as patch:
        if "CODEPRIOR_CACHE" not in os.environ:
            patch.setenv("CODEPRIOR_CACHE", str(tmp_path_factory.mktemp("compiled")))
        yield

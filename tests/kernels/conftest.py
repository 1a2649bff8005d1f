"""The compiled lookup keeps its library in a folder of the test run."""

import os

import pytest


@pytest.fixture(autouse=True, scope="session")
def compiled_code(tmp_path_factory):
    """The compiled lookup needs a folder that was chosen for it."""
    with pytest.MonkeyPatch.context() as patch:
        if "CODEPRIOR_CACHE" not in os.environ:
            patch.setenv("CODEPRIOR_CACHE", str(tmp_path_factory.mktemp("compiled")))
        yield

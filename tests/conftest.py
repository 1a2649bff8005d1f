"""What every test relies on: the same examples on every machine, one thread, no surprises from the processor."""

import os

# before anything imports triton: without a device the very kernels that ship run in its interpreter
if not os.path.exists("/dev/nvidia0"):
    os.environ.setdefault("TRITON_INTERPRET", "1")

# before anything imports OpenCV: its Intel IPP computes the outermost columns of an enlargement otherwise on processors
# with AVX-512; tests/degradations/test_processors.py says what holds without this
os.environ.setdefault("OPENCV_IPP", "avx2")

import hypothesis
import pytest
import torch

# a newcomer's run tests what CI has tested; HYPOTHESIS_PROFILE=thorough draws new examples
hypothesis.settings.register_profile("default", deadline=None, max_examples=25, derandomize=True)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=500, derandomize=False, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or "default")


# the first backward pass starts a thread for each device; a test that pretends to have a GPU would have it start one
# for that, and no process that is forked later could go backward
torch.ones(1, requires_grad=True).sum().backward()


def pytest_configure(config: pytest.Config) -> None:
    # compiled code stays out of the home folder; workers and later runs share it
    os.environ.setdefault("CODEPRIOR_CACHE", str(config.rootpath / ".pytest_cache" / "compiled"))
    # workers share two cores; more threads than cores makes small tensors slower, not faster. OMP_NUM_THREADS decides
    # where it is set: on a busy machine two threads that wait for each other cost ten times the time of one
    alone = int(os.environ.get("OMP_NUM_THREADS") or min(2, os.cpu_count() or 1))
    torch.set_num_threads(1 if os.environ.get("PYTEST_XDIST_WORKER") else alone)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    absent = pytest.mark.skip(reason="no CUDA device here")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(absent)


@pytest.fixture(autouse=True)
def _same_random_numbers():
    """Gives every test the same global generator, so that its order in the run does not matter."""
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _no_chosen_implementation(monkeypatch):
    monkeypatch.delenv("CODEPRIOR_IMPL", raising=False)

"""What can be known of the GPU path without a GPU: it compiles without spills, and a chain asks the device nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict:
    # a process of its own: here the kernels run in Triton's interpreter, and cannot be compiled
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton"))
    command = [sys.executable, "-W", "ignore", "-m", "tests.kernels.without_a_gpu"]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False, timeout=580)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "name", ["jpeg_blocks False", "jpeg_blocks True", "jpeg_colours", "blur_resize_taps", "normal_pixels"]
)
def test_the_shipped_tiles_compile_for_hopper_without_spills(found, name):
    used = found[name]
    # a compiler's heuristic: Triton 3.8 spills one register of blur_resize, 3.4 and 3.9 none; more would cost time
    assert max(used["STACK"], used["LOCAL"]) <= 16  # bytes
    # 16 warps or more to an SM of 65,536 registers
    assert used["REG"] * 32 * 16 <= 65536


def test_a_chain_on_cuda_goes_through_the_kernels_and_asks_the_device_nothing(found):
    """On tensors without values, `item`, `bool`, `nonzero` and every copy to the host raise."""
    if reason := found["daefr"].get("skipped"):
        pytest.skip(f"tensors without values need a GPU's driver here: {reason}")
    assert found["daefr"] == {"device": "cuda:0", "kernels": "blur_resize,jpeg,normal_field"}

"""The kernels that ship compile for GPUs that are not here, fit their shared memory, and spill next to nothing."""

import json
import os
import subprocess
import sys

import pytest

# bytes a program may have: CUDA C++ programming guide, technical specifications per compute capability
SHARED = {80: 163 * 1024, 90: 227 * 1024}
SPILLED = 16  # bytes of a thread's stack
PRODUCTS = {80: "HMMA", 90: "HGMMA"}


def compiled(capability: int, width: int, rows: int, kernels: int, folder) -> list[dict]:
    pytest.importorskip("triton")
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.kernels.gpu_code", *map(str, (capability, width, rows, kernels))],
        env=environment | {"TRITON_CACHE_DIR": str(folder)}, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    return [json.loads(line) for line in result.stdout.splitlines()]


def check(found: list[dict], capability: int, kernels: int) -> None:
    assert len(found) == kernels
    for kernel in found:
        assert kernel["shared"] <= SHARED[capability], kernel
        # a few registers, outside of the loop: how many depends on the compiler (Triton 3.8 spills one, 3.4 none)
        assert kernel["spills"][1] <= SPILLED, kernel
        assert PRODUCTS[capability] in kernel["products"], kernel


def test_the_kernel_for_few_rows_compiles_for_compute_capability_9_0(tmp_path):
    check(compiled(90, 8, 256, 1, tmp_path), 90, 1)


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("rows", [256, 65536])
@pytest.mark.parametrize("width", [8, 64, 128, 256, 512])
def test_every_kernel_at_every_tiling_compiles(capability, rows, width, tmp_path):
    check(compiled(capability, width, rows, 4, tmp_path), capability, 4)

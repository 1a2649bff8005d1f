"""The Triton ops as torch.library sees them: schema and autograd here, shapes and tracing on a pretended GPU."""

import json
import os
import subprocess
import sys

import pytest
import torch
from torch.library import opcheck

from codeprior.kernels.code_stats import fused as _stats  # noqa: F401  registers its ops
from codeprior.kernels.contrastive import fused as _contrastive  # noqa: F401
from codeprior.kernels.nearest_code import lookup, nearest_code
from codeprior.kernels.nearest_code import residual as _residual  # noqa: F401
from tests.fake_gpu import need_fake_gpu

ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"
# the interpreter reads memory, which fake tensors do not have: the other checks of opcheck need a GPU
CHECKS = ("test_schema", "test_autograd_registration")
CHECKS += ("test_faketensor", "test_aot_dispatch_dynamic") if ON_GPU else ()


def _arguments(name: str) -> tuple:
    rows, table = (torch.randn(*shape, device=DEVICE) for shape in ((1, 5, 4), (7, 4)))
    learned = rows[0].clone().requires_grad_(), (2 * rows[0]).requires_grad_()
    scale = torch.tensor(2.0, device=DEVICE)
    return {
        "nearest_code_triton": (rows, table, "triton", True),
        "lookup_triton": (rows.clone().requires_grad_(), table.clone().requires_grad_(), "triton", True),
        "residual_code_triton": (rows[0], table[None], True),
        "code_stats_triton": (rows[0], torch.arange(5, device=DEVICE), 6),
        "symmetric_cross_entropy_triton": (*learned, scale.clone().requires_grad_()),
        "symmetric_cross_entropy_triton_backward": (rows[0], rows[0], scale, *rows[0, :, :2].T.contiguous()),
    }[name]


NAMES = [
    "nearest_code_triton",
    "lookup_triton",
    "residual_code_triton",
    "code_stats_triton",
    "symmetric_cross_entropy_triton",
    "symmetric_cross_entropy_triton_backward",
]


@pytest.mark.parametrize("name", NAMES)
def test_the_triton_ops_pass_the_checks_of_torch_library(name):
    opcheck(getattr(torch.ops.codeprior, name).default, _arguments(name), test_utils=CHECKS)


_PRETENDED = """
import json
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from codeprior.kernels.code_stats import fused
from codeprior.kernels.contrastive import fused
from codeprior.kernels.nearest_code import fused, residual

ops = torch.ops.codeprior
with FakeTensorMode(shape_env=ShapeEnv()):
    latent, table = torch.empty(2, 6, 12, device="cuda").transpose(1, 2), torch.empty(70, 6, device="cuda")
    rows, indices = torch.empty(9, 6, device="cuda"), torch.empty(9, dtype=torch.int64, device="cuda")
    scale, sums = torch.empty((), device="cuda"), torch.empty(9, device="cuda")
    found = {
        "nearest_code_triton": [ops.nearest_code_triton(latent, table, "triton", True)],
        "lookup_triton": ops.lookup_triton(latent, table, "triton", True),
        "residual_code_triton": [ops.residual_code_triton(rows, table[None], True)],
        "code_stats_triton": ops.code_stats_triton(rows, indices, 5),
        "symmetric_cross_entropy_triton": ops.symmetric_cross_entropy_triton(rows, rows, scale),
        "symmetric_cross_entropy_triton_backward": ops.symmetric_cross_entropy_triton_backward(
            rows, rows, scale, sums, sums
        ),
    }
    graph = make_fx(lambda x, c: ops.lookup_triton(x, c, "triton", True)[0], tracing_mode="symbolic")(latent, table)
    shapes = {name: [[list(o.shape), str(o.dtype), list(o.stride())] for o in outs] for name, outs in found.items()}
print(json.dumps({"shapes": shapes, "graph": str(graph.code)}))
"""


def test_shapes_are_known_and_the_launch_is_traced_without_running_it():
    need_fake_gpu()
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _PRETENDED], env=environment, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr[-2000:]
    found = json.loads(result.stdout.splitlines()[-1])
    # the compiler must not take the launch apart: it may lose what was said about fused multiply-adds
    assert "codeprior.lookup_triton" in found["graph"] and "triton_kernel_wrapper" not in found["graph"]
    number, grid, table = "torch.float32", [[2, 12], "torch.int64", [12, 1]], [[9, 6], "torch.float32", [6, 1]]
    assert found["shapes"] == {
        "nearest_code_triton": [grid],
        # the codes lie in memory as the rows do
        "lookup_triton": [
            [[2, 12, 6], number, [72, 1, 12]],
            [[2, 12], number, [12, 1]],
            grid,
            [[70], "torch.int64", [1]],
        ],
        "residual_code_triton": [[[9, 1], "torch.int64", [1, 1]]],
        "code_stats_triton": [[[5], "torch.int64", [1]], [[5, 6], number, [6, 1]]],
        "symmetric_cross_entropy_triton": [[[], number, []], *[[[9], number, [1]]] * 2],
        "symmetric_cross_entropy_triton_backward": [table, table, [[], number, []]],
    }


def test_compiled_equals_eager():
    rows, table = torch.randn(2, 9, 4, device=DEVICE), torch.randn(7, 4, device=DEVICE)

    def forward(rows, table):
        found = lookup(rows, table, impl="triton")
        return found.codes + 1, found.indices, found.distances, nearest_code(rows, table, impl="triton")

    # without a GPU the compiler's own kernels are left out: what is asked is whether the ops stay whole
    whole = torch.compile(forward, fullgraph=True, dynamic=True, backend="inductor" if ON_GPU else "aot_eager")
    for mine, theirs in zip(whole(rows, table), forward(rows, table), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.slow
def test_a_module_with_the_whole_lookup_can_be_exported_for_any_batch():
    class Quantizer(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.nn.Parameter(torch.randn(11, 4))

        def forward(self, latent):
            found = lookup(latent, self.table)
            return found.codes, found.indices, nearest_code(latent, self.table, mode="fast")

    module, batch = Quantizer(), torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(module, (torch.randn(2, 4, 3, 3),), dynamic_shapes={"latent": {0: batch}})
    for size in (2, 5):
        latent = torch.randn(size, 4, 3, 3)
        for mine, theirs in zip(program.module()(latent), module(latent), strict=True):
            assert torch.equal(mine, theirs)

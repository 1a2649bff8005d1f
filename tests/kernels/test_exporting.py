"""Ways that are written for files run in exported graphs alone, never in models that are compiled for this process."""

import pytest
import torch

from codeprior.kernels import convolution, crop_resize, prelu_convolution, use_impl
from codeprior.kernels._exporting import exporting
from codeprior.kernels.deformable_convolution import deformable_convolution


class Marked(torch.nn.Module):
    def forward(self, x):
        return x + 100 if exporting() else x


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiling_is_not_exporting(dynamic):
    whole = torch.compile(Marked(), backend="aot_eager", fullgraph=True, dynamic=dynamic)
    assert whole(torch.zeros(2)).tolist() == Marked()(torch.zeros(2)).tolist() == [0, 0]


@pytest.mark.parametrize("strict", [False, True])
def test_exporting_is(strict):
    program = torch.export.export(Marked(), (torch.zeros(2),), strict=strict)
    assert program.module()(torch.zeros(2)).tolist() == [100, 100]
    assert not exporting()


def test_tracing_is():
    traced = torch.jit.trace(Marked(), torch.zeros(2), check_trace=False)
    assert traced(torch.ones(2)).tolist() == [101, 101]
    assert not exporting()


def _cropped(image, boxes):
    return crop_resize(image, boxes, (8, 8))


def _convolved(feature, weight):
    return convolution(feature, weight, None)


def _after_prelu(feature, weight, bias):
    return prelu_convolution(feature, weight, bias, bias, pool=2)


def _deformed(feature, weight, offsets, mask):
    return deformable_convolution(feature, weight, None, offsets=offsets, mask=mask)


# large enough for the code in C++ to be chosen where nothing is traced
_FEATURES = (1, 32, 32, 32)
_TRACED = {
    "crop_resize": (_cropped, lambda: (torch.rand(3, 64, 64), torch.tensor([[5, 5, 60, 60]] * 20))),
    "convolution": (_convolved, lambda: (torch.randn(_FEATURES), torch.randn(64, 32, 3, 3))),
    "prelu_convolution": (_after_prelu, lambda: (torch.randn(_FEATURES), torch.randn(64, 32, 3, 3), torch.randn(64))),
    "deformable_convolution": (
        _deformed,
        lambda: (
            torch.randn(_FEATURES),
            torch.randn(64, 32, 3, 3),
            torch.randn(1, 18, 32, 32),
            torch.rand(1, 9, 32, 32),
        ),
    ),
}


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("name", _TRACED)
def test_what_runs_in_cpp_is_pytorch_in_a_traced_graph_and_no_constant(name):
    function, inputs = _TRACED[name]
    with torch.no_grad():
        traced = torch.jit.trace(function, inputs(), check_trace=False)
        other = inputs()
        kinds = {node.kind().split("::")[0] for node in traced.inlined_graph.nodes()}
        assert kinds <= {"aten", "prim"}
        with use_impl(f"{name}=reference"):
            truth = function(*other)
    # the same operators, which TorchScript may fuse
    torch.testing.assert_close(traced(*other), truth, rtol=1e-5, atol=1e-5)

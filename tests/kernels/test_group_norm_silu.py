"""The fused normalisation agrees with torch's in float64, values and gradients, and compiles for a real GPU."""

import itertools

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.library import opcheck
from torch.nn import functional as F

from codeprior.kernels import ImplUnavailable, group_norm_silu

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LAYOUTS = (torch.contiguous_format, torch.channels_last)


def _inputs(shape, layout, *, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    feature = (3 * torch.randn(shape, generator=generator) + 2).to(dtype).contiguous(memory_format=layout)
    weight, bias = torch.randn(2, shape[1], generator=generator)
    return [tensor.to(DEVICE).requires_grad_() for tensor in (feature, weight, bias)]


def _definition(feature, weight, bias, groups):
    return F.silu(F.group_norm(feature, groups, weight, bias, 1e-6))


@settings(max_examples=5)  # the interpreter needs 10 ms a program, and a program a channel
@example(0, (1, 130, 4, 9), torch.channels_last, 26)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 2), st.sampled_from([4, 12]), st.integers(1, 9), st.integers(2, 30)),
    layout=st.sampled_from(LAYOUTS),
    groups=st.sampled_from([1, 4]),
)
def test_values_and_gradients_are_the_definitions(seed, shape, layout, groups):
    given_ = _inputs(shape, layout, seed=seed)
    exact = [tensor.detach().double().requires_grad_() for tensor in given_]
    answer, expected = group_norm_silu(*given_, groups=groups, impl="triton"), _definition(*exact, groups)
    assert answer.stride() == given_[0].stride()
    slope = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)
    pairs = zip(torch.autograd.grad(answer, given_, slope), torch.autograd.grad(expected, exact, slope.double()))
    # sums of up to some thousand float32 terms
    torch.testing.assert_close(answer.double(), expected, rtol=1e-5, atol=2e-5)
    for mine, theirs in pairs:
        # two values of one group nearly cancel in the gradient: what remains is judged by the larger terms
        assert (mine - theirs).abs().max() <= 2e-5 * (theirs.abs().max() + slope.abs().max())


@pytest.mark.parametrize(("dtype", "layout"), list(itertools.product((torch.bfloat16, torch.float16), LAYOUTS)))
def test_half_precision_is_rounded_once(dtype, layout):
    feature, weight, bias = _inputs((2, 8, 20, 20), layout, dtype=dtype)
    answer = group_norm_silu(feature, weight, bias, groups=4, impl="triton")
    expected = _definition(feature.double(), weight.double(), bias.double(), 4)
    assert answer.dtype == dtype
    # one unit in the last place where the interpreter truncates bfloat16, half of one where it rounds; float32's below
    units = 1.01 if dtype == torch.bfloat16 and DEVICE == "cpu" else 0.51
    assert ((answer - expected).abs() <= torch.finfo(dtype).eps * units * expected.abs() + 1e-6).all()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_mean_far_from_zero_does_not_drown_the_variance(layout):
    feature, weight, bias = _inputs((1, 8, 64, 48), layout)
    feature = (feature.detach() + 1000).contiguous(memory_format=layout)
    answer = group_norm_silu(feature, weight, bias, groups=4, impl="triton")
    # the input's own rounding is 3e-5 of its deviation
    torch.testing.assert_close(
        answer.double(), _definition(feature.double(), weight.double(), bias.double(), 4), rtol=1e-4, atol=2e-4
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_is_a_good_citizen_of_the_compiler(layout):
    from codeprior.kernels.group_norm_silu import fused

    # the interpreter has no fake tensors
    checks = ("test_schema", "test_faketensor") if DEVICE == "cuda" else ("test_schema",)
    opcheck(fused.forward, (*_inputs((2, 8, 5, 3), layout), 4, 1e-6), test_utils=checks)


@pytest.mark.parametrize(("side", "channels"), [(1024, 128), (1024, 512), (4096, 64)])
def test_no_grid_is_longer_than_a_device_allows(side, channels):
    from codeprior.kernels.group_norm_silu import fused

    tile = {"BP": 2048 // min(128, channels), "BC": min(128, channels)}
    grid = fused.grid_of(8, side * side, channels, tile)
    # CUDA C++ programming guide, technical specifications per compute capability
    assert grid[0] < 2**31 and max(grid[1:]) <= 65535


def test_without_a_gpu_the_definition_runs():
    feature, weight, bias = (tensor.detach().cpu() for tensor in _inputs((1, 8, 5, 3), LAYOUTS[0]))
    assert torch.equal(group_norm_silu(feature, weight, bias, groups=4), _definition(feature, weight, bias, 4))


def test_errors_say_what_to_do():
    feature, weight, bias = _inputs((1, 8, 5, 3), LAYOUTS[0])
    with pytest.raises(ValueError, match="8 channels do not divide into 3 groups"):
        group_norm_silu(feature, weight, bias, groups=3)
    with pytest.raises(ValueError, match=r"weight \(c,\) and bias \(c,\), got \(1, 8, 5, 3\), \(7,\)"):
        group_norm_silu(feature, weight[:7], bias, groups=4)
    with pytest.raises(ImplUnavailable, match="its moments are float32, too coarse for float64"):
        group_norm_silu(feature.double(), weight, bias, groups=4, impl="triton")


_COMPILE = """
import sys
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from codeprior.kernels.group_norm_silu import fused

float_type, place, channel = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
COUNTS = {"PLACES", "C", "SPAN", "SPLITS", "GROUPS", "MEMBERS", "image_stride", "place_stride", "channel_stride"}
FEATURES = {"x_ptr", "out_ptr", "slope_ptr"}
SIZES = {"BP": 2048 // (128 if channel == 1 else 1), "BC": 128 if channel == 1 else 1, "BS": 16, "BM": 2}
for kernel in (fused.partial_moments, fused.join_moments, fused.apply, fused.partial_slopes, fused.to_feature):
    signature, constants = {}, {}
    for name in kernel.arg_names:
        if name in SIZES:
            signature[name], constants[name] = "constexpr", SIZES[name]
        elif {"place_stride": place, "channel_stride": channel}.get(name) == 1:
            signature[name], constants[name] = "constexpr", 1
        elif name in COUNTS:
            signature[name] = "i32"
        elif name == "epsilon":
            signature[name] = "fp32"
        else:
            signature[name] = "*" + (float_type if name in FEATURES else "fp32")
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32))
    assert ".visible .entry" in compiled.asm["ptx"] and compiled.asm["cubin"], kernel
    print(kernel.__name__)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "place", "channel"), [("fp32", 1, 0), ("bf16", 0, 1), ("fp16", 0, 1)])
def test_it_compiles_for_compute_capability_9_0(dtype, place, channel, tmp_path):
    import os
    import subprocess
    import sys

    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    result = subprocess.run(
        [sys.executable, "-c", _COMPILE, dtype, str(place), str(channel)],
        capture_output=True, text=True, timeout=300, env=environment | {"TRITON_CACHE_DIR": str(tmp_path)},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    assert len(result.stdout.split()) == 5

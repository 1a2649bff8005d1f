"""The small convolution is its definition, written out in float64, whichever implementation runs."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.library import opcheck
from torch.nn import functional as F

from codeprior.kernels import ImplUnavailable, _compile, prelu_convolution
from codeprior.kernels.prelu_convolution.api import prelu_convolution_op

ROUNDING = 1e-6  # of the sum of magnitudes; a sum of 1,152 products in float32 is off by 3e-7 of it


@pytest.fixture(autouse=True)
def _needs_a_compiler():
    if reason := _compile.why_not("prelu_convolution"):
        pytest.skip(reason)


def _inputs(seed, batch, channels, outs, kernel, height, width):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    feature = draw(batch, channels, height + kernel - 1, width + kernel - 1)
    return feature, draw(outs, channels, kernel, kernel), draw(outs), draw(outs)


def _definition(feature, weight, bias, slope, pool):
    answer = F.conv2d(feature.double(), weight.double(), bias.double())
    if slope is not None:
        answer = torch.where(answer > 0, answer, answer * slope.double()[:, None, None])
    if pool:
        answer = F.max_pool2d(answer, pool, 2, ceil_mode=True)
    sizes = F.conv2d(feature.double().abs(), weight.double().abs(), bias.double().abs()).amax()
    return answer, sizes * (1 if slope is None else max(1, float(slope.abs().max())))


@given(
    seed=st.integers(0, 2**32 - 1),
    batch=st.integers(1, 3),
    channels=st.sampled_from([1, 3, 10, 32, 128]),
    outs=st.sampled_from([1, 10, 16, 28, 32]),
    kernel=st.integers(1, 3),
    height=st.integers(1, 14),
    width=st.integers(1, 27),
    pool=st.sampled_from([0, 2, 3]),
    leaning=st.booleans(),
    together=st.booleans(),
)
def test_it_is_the_definition(seed, batch, channels, outs, kernel, height, width, pool, leaning, together):
    feature, weight, bias, slope = _inputs(seed, batch, channels, outs, kernel, height, width)
    if pool and min(height, width) < pool:
        height, width = max(height, pool), max(width, pool)
        feature, weight, bias, slope = _inputs(seed, batch, channels, outs, kernel, height, width)
    slope = slope if leaning else None
    feature = feature.contiguous(memory_format=torch.channels_last) if together else feature
    found = prelu_convolution(feature, weight, bias, slope, pool=pool, impl="compiled")
    expected, sizes = _definition(feature, weight, bias, slope, pool)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= ROUNDING * sizes


def test_stripes_of_a_large_feature_meet():
    for pool in (2, 3):
        feature, weight, bias, slope = _inputs(0, 1, 3, 10, 3, 301, 517)
        found = prelu_convolution(feature, weight, bias, slope, pool=pool, impl="compiled")
        expected, sizes = _definition(feature, weight, bias, slope, pool)
        assert (found - expected).abs().max() <= ROUNDING * sizes


def test_layers_follow_one_another_without_a_copy_and_a_part_is_read_where_it_lies():
    feature, weight, bias, slope = _inputs(0, 2, 3, 10, 3, 20, 20)
    once = prelu_convolution(feature, weight, bias, slope, impl="compiled")
    assert once.stride() == (20 * 20 * 16, 1, 20 * 16, 16)  # 10 channels, each place at a multiple of 16
    _, next_weight, next_bias, _ = _inputs(1, 2, 10, 16, 3, 18, 18)
    part = once[:, :, 1:, 2:]
    found = prelu_convolution(part, next_weight, next_bias, impl="compiled")
    assert torch.equal(found, prelu_convolution(part.clone(), next_weight, next_bias, impl="compiled"))


def test_what_is_not_finite_is_not_hidden():
    for pool in (0, 2, 3):
        feature, weight, bias, slope = _inputs(0, 1, 3, 16, 3, 9, 9)
        feature[0, 1, 4, 4] = torch.nan
        found = prelu_convolution(feature, weight, bias, slope, pool=pool, impl="compiled")
        expected = prelu_convolution(feature, weight, bias, slope, pool=pool, impl="reference")
        assert torch.equal(found.isnan(), expected.isnan()) and found.isnan().any()


def test_auto_leaves_gradients_and_other_types_to_pytorch():
    feature, weight, bias, slope = _inputs(0, 1, 3, 10, 3, 400, 400)
    weight.requires_grad_()
    with torch.no_grad():
        assert prelu_convolution(feature, weight, bias, slope).stride(1) == 1
    answer = prelu_convolution(feature, weight, bias, slope)
    (gradient,) = torch.autograd.grad(answer.sum(), weight)
    (truth,) = torch.autograd.grad(F.prelu(F.conv2d(feature, weight, bias), slope).sum(), weight)
    assert torch.equal(gradient, truth)
    with pytest.raises(ImplUnavailable, match="it gives no gradients"):
        prelu_convolution(feature, weight, bias, slope, impl="compiled")
    with pytest.raises(ImplUnavailable, match="it multiplies float32"):
        prelu_convolution(*(part.detach().double() for part in (feature, weight, bias, slope)), impl="compiled")


def test_it_is_a_good_citizen_of_the_compiler():
    feature, weight, bias, slope = _inputs(0, 2, 3, 10, 3, 8, 9)
    opcheck(prelu_convolution_op, (feature, weight, bias, slope, 2))
    opcheck(prelu_convolution_op, (feature, weight, bias, None, 0))


def test_errors_say_what_to_do():
    feature, weight, bias, slope = _inputs(0, 1, 3, 10, 3, 8, 8)
    with pytest.raises(ValueError, match=r"expected a feature \(b, c, h, w\) and a weight \(o, c, k, k\), got \(1, 3"):
        prelu_convolution(feature, weight[:, :, :2], bias)
    with pytest.raises(ValueError, match="a feature of 2×10 places is smaller than the kernel of 3×3"):
        prelu_convolution(feature[:, :, :2], weight, bias)
    with pytest.raises(ValueError, match=r"expected a slope \(10,\), got \(9,\)"):
        prelu_convolution(feature, weight, bias, slope[:9])
    with pytest.raises(ValueError, match="expected a maximum over 0, 2 or 3 places a side, got 4"):
        prelu_convolution(feature, weight, bias, slope, pool=4)

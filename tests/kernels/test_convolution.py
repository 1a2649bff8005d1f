"""The compiled convolution is its definition, written out in float64, and stays out of where it does not fit."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.library import opcheck
from torch.nn import functional as F

from codeprior.kernels import ImplUnavailable, _compile, convolution, use_impl
from codeprior.kernels.convolution import Norm
from codeprior.kernels.convolution.api import convolution_op

# Winograd's rounding: 3.2e-6 of the sum of magnitudes at worst in 1,000 drawn cases; direct sums reach 3.3e-7
ROUNDING = 1e-5


@pytest.fixture(autouse=True)
def _needs_a_compiler():
    if reason := _compile.why_not("convolution"):
        pytest.skip(reason)


def _definition(feature, weight, bias, norm, residual, doubled):
    """The answer in float64, and the sums of magnitudes that its rounding is judged by."""
    feature, weight = feature.double(), weight.double()
    if norm is not None:
        feature = F.silu(F.group_norm(feature, norm.groups, norm.weight.double(), norm.bias.double(), norm.epsilon))
    if doubled:
        feature = feature.repeat_interleave(2, 2).repeat_interleave(2, 3)
    answer = F.conv2d(feature, weight, bias.double(), padding=1)
    sizes = F.conv2d(feature.abs(), weight.abs(), bias.double().abs(), padding=1).amax()
    return answer + (0 if residual is None else residual), sizes


def _inputs(seed, batch, channels, outs, height, width, doubled=False):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    residual = draw(batch, outs, height << doubled, width << doubled)
    return (
        draw(batch, channels, height, width) * 3 + 1, draw(outs, channels, 3, 3), draw(outs),
        Norm(draw(channels), draw(channels), 4, 1e-6), residual,
    )  # fmt: skip


@given(
    seed=st.integers(0, 2**32 - 1),
    batch=st.integers(1, 2),
    channels=st.sampled_from([16, 32, 64, 3, 20]),
    outs=st.sampled_from([16, 48, 3]),
    height=st.integers(1, 13),
    width=st.integers(1, 13),
    parts=st.tuples(*[st.booleans()] * 4),
)
def test_it_is_the_definition(seed, batch, channels, outs, height, width, parts):
    normed, added, doubled, last = parts
    feature, weight, bias, norm, residual = _inputs(seed, batch, channels, outs, height, width, doubled)
    norm, residual = norm if normed and channels % 4 == 0 else None, residual if added else None
    if last:
        feature = feature.contiguous(memory_format=torch.channels_last)
    told = {"norm": norm, "residual": residual, "doubled": doubled}
    found = convolution(feature, weight, bias, **told, impl="compiled")
    expected, sizes = _definition(feature, weight, bias, norm, residual, doubled)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert (found - expected).abs().max() <= ROUNDING * sizes


def test_a_part_of_a_feature_is_read_where_it_lies():
    feature, weight, bias, norm, _ = _inputs(0, 1, 16, 16, 12, 12)
    part = feature.contiguous(memory_format=torch.channels_last)[..., 1:, 2:]
    found = convolution(part, weight, bias, norm=norm, impl="compiled")
    assert torch.equal(found, convolution(part.contiguous(), weight, bias, norm=norm, impl="compiled"))


def test_a_mean_far_from_zero_does_not_drown_the_variance():
    feature, weight, bias, norm, _ = _inputs(0, 1, 16, 16, 40, 40)
    feature = feature + 1000
    found = convolution(feature, weight, bias, norm=norm, impl="compiled")
    expected, sizes = _definition(feature, weight, bias, norm, None, False)
    # the feature's own float32 rounding is 3e-5 of its deviation here
    assert (found - expected).abs().max() <= 1e-4 * sizes


def test_threads_and_batches_change_nothing():
    feature, weight, bias, norm, _ = _inputs(0, 3, 64, 64, 41, 38)
    alone = [convolution(feature[i : i + 1], weight, bias, norm=norm, impl="compiled") for i in range(3)]
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        together = convolution(feature, weight, bias, norm=norm, impl="compiled")
    finally:
        torch.set_num_threads(before)
    assert torch.equal(together, torch.cat(alone))


def test_what_is_not_finite_is_not_hidden():
    feature, weight, bias, _, _ = _inputs(0, 1, 16, 16, 8, 8)
    feature[0, 3, 4, 4] = torch.nan
    assert convolution(feature, weight, bias, impl="compiled")[0, :, 3:6, 3:6].isnan().all()


def test_auto_takes_it_for_large_grids_without_gradients():
    def runs(size: int, **told) -> bool:
        channels = told.get("channels", 16)
        feature, weight, bias, _, _ = _inputs(0, 1, channels, channels, size, size)
        feature = feature.to(told.get("dtype", torch.float32)).requires_grad_(told.get("gradient", False))
        answer = convolution(feature, weight.to(feature.dtype), bias.to(feature.dtype))
        return not torch.equal(answer, F.conv2d(feature, weight.to(feature.dtype), bias.to(feature.dtype), padding=1))

    assert runs(64)
    assert not runs(32)
    assert not runs(64, gradient=True)
    assert not runs(64, dtype=torch.float64)
    # kernels that stay in the cache pay on smaller grids, too; of more of them the transformed ones do not
    assert runs(16, channels=128) and not runs(15, channels=128) and not runs(16, channels=272)
    feature, weight, bias, _, _ = _inputs(0, 1, 16, 16, 4, 4)
    with (
        torch.autocast("cpu", torch.bfloat16),
        pytest.raises(ImplUnavailable, match="autocast asks for half precision"),
    ):
        convolution(feature, weight, bias, impl="compiled")


def test_it_runs_on_any_grid_where_it_is_asked_for_by_name(monkeypatch):
    feature, weight, bias, _, _ = _inputs(0, 1, 16, 16, 5, 4)
    expected = convolution(feature, weight, bias, impl="compiled")
    with use_impl("convolution=compiled"):
        assert torch.equal(convolution(feature, weight, bias), expected)
    monkeypatch.setenv("CODEPRIOR_IMPL", "compiled")
    assert torch.equal(convolution(feature, weight, bias), expected)
    monkeypatch.setenv("CODEPRIOR_IMPL", "blocked")  # of another op
    assert torch.equal(convolution(feature, weight, bias), convolution(feature, weight, bias, impl="reference"))


def test_on_a_few_places_the_kernels_are_not_brought_into_another_order():
    feature, weight, bias, norm, residual = _inputs(0, 1, 64, 64, 4, 4)
    together = feature.contiguous(memory_format=torch.channels_last)
    expected = convolution(feature, weight, bias, norm=norm, residual=residual)
    with torch.no_grad(), torch.profiler.profile(record_shapes=True) as seen:
        found = convolution(together, weight, bias, norm=norm, residual=residual)
    copied = [event.input_shapes[0] for event in seen.events() if event.name == "aten::copy_"]
    assert [1, 64, 4, 4] in copied and [64, 64, 3, 3] not in copied
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


def test_gradients_are_those_of_the_definition():
    feature, weight, bias, norm, residual = _inputs(0, 1, 16, 16, 32, 32)
    given = [tensor.requires_grad_() for tensor in (feature, weight, bias, *norm[:2], residual)]
    ours = convolution(feature, weight, bias, norm=norm, residual=residual)
    plain = residual + F.conv2d(F.silu(F.group_norm(feature, 4, norm.weight, norm.bias, 1e-6)), weight, bias, padding=1)
    for mine, theirs in zip(
        torch.autograd.grad(ours.sum(), given), torch.autograd.grad(plain.sum(), given), strict=True
    ):
        assert torch.equal(mine, theirs)
    with pytest.raises(ImplUnavailable, match="it gives no gradients"):
        convolution(feature, weight, bias, impl="compiled")


def test_it_is_a_good_citizen_of_the_compiler():
    feature, weight, bias, norm, residual = _inputs(0, 2, 16, 16, 8, 8)
    opcheck(convolution_op, (feature, weight, bias, *norm, residual, False))
    opcheck(convolution_op, (feature, weight[:3], bias[:3], None, None, 1, 0.0, None, True))


def test_errors_say_what_to_do():
    feature, weight, bias, norm, residual = _inputs(0, 1, 16, 16, 8, 8)
    with pytest.raises(ValueError, match=r"expected a feature \(b, c, h, w\) and a weight \(o, c, 3, 3\), got \(1, 16"):
        convolution(feature, weight[:, :3], bias)
    with pytest.raises(ValueError, match=r"a norm of \(16,\) weights in 5 groups does not fit 16 channels"):
        convolution(feature, weight, bias, norm=norm._replace(groups=5))
    with pytest.raises(ValueError, match=r"expected a residual \(1, 16, 16, 16\), got \(1, 16, 8, 8\)"):
        convolution(feature, weight, bias, residual=residual, doubled=True)

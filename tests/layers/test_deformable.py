"""Deformable convolution: both forms are one, an unmoved one is an ordinary one, and what does not fit is refused."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from codeprior.layers import DeformableConvolution, deformable_convolution


def _inputs(height: int, width: int, groups: int, spread: float, dtype=torch.float32):
    generator = torch.Generator().manual_seed(7)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    feature, weight, bias = draw(2, 2 * groups, height, width), draw(3, 2 * groups, 3, 3), draw(3)
    return feature, weight, bias, spread * draw(2, 18 * groups, height, width), draw(2, 9 * groups, height, width)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 7), st.integers(1, 7), st.sampled_from([1, 2, 4]), st.sampled_from([0.0, 0.7, 5.0]))
def test_both_forms_agree_on_any_grid(height, width, groups, spread):
    feature, weight, bias, offsets, mask = _inputs(height, width, groups, spread, torch.float64)
    first, second = (
        deformable_convolution(feature, weight, bias, offsets=offsets, mask=mask, impl=impl)
        for impl in ("torchvision", "grid_sample")
    )
    torch.testing.assert_close(first, second, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("impl", ["torchvision", "grid_sample"])
def test_without_offsets_it_is_an_ordinary_convolution(impl):
    feature, weight, bias, offsets, mask = _inputs(6, 5, 2, 0.0)
    answer = deformable_convolution(feature, weight, bias, offsets=offsets, mask=torch.ones_like(mask), impl=impl)
    torch.testing.assert_close(answer, F.conv2d(feature, weight, bias, padding=1), rtol=1e-4, atol=1e-5)


def test_gradients_of_both_forms_agree():
    found = []
    for impl in ("torchvision", "grid_sample"):
        inputs = [value.requires_grad_() for value in _inputs(5, 6, 2, 0.7, torch.float64)]
        feature, weight, bias, offsets, mask = inputs
        deformable_convolution(feature, weight, bias, offsets=offsets, mask=mask, impl=impl).square().sum().backward()
        found.append([value.grad for value in inputs])
    for first, second in zip(*found, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-8, atol=1e-8)


def test_an_exported_graph_does_not_need_torchvision():
    block = DeformableConvolution(4).eval()
    torch.nn.init.normal_(block.offsets.weight, std=0.1)
    feature, guide = torch.randn(2, 1, 4, 6, 6)
    program = torch.export.export(block, (feature, guide))
    assert "grid_sampler" in str(program.graph) and "deform_conv2d" not in str(program.graph)
    torch.testing.assert_close(program.module()(feature, guide), block(feature, guide), rtol=1e-5, atol=1e-5)


def test_a_new_block_reads_the_grid_at_half_weight():
    block = DeformableConvolution(8, groups=2)
    feature, guide = torch.randn(2, 1, 8, 5, 5)
    torch.testing.assert_close(block(feature, guide), 0.5 * F.conv2d(feature, block.weight, padding=1))


def test_what_does_not_fit_is_refused():
    feature, weight, bias, offsets, mask = _inputs(4, 4, 2, 0.0)
    with pytest.raises(ValueError, match=r"deformable_convolution: expected .* got \(2, 4, 4, 4\)"):
        deformable_convolution(feature, weight, bias, offsets=offsets[:, :18], mask=mask)
    with pytest.raises(ValueError, match="DeformableConvolution: 6 channels do not divide into 4 groups"):
        DeformableConvolution(6)

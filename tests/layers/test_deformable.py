"""The module of deformable convolution: what a new one reads, what an export holds, and what is refused."""

import pytest
import torch
from torch.nn import functional as F

from codeprior.layers import DeformableConvolution


def test_an_exported_graph_does_not_need_torchvision():
    block = DeformableConvolution(4).eval()
    torch.nn.init.normal_(block.offsets.weight, std=0.1)
    feature, guide = torch.randn(2, 1, 4, 6, 6)
    program = torch.export.export(block, (feature, guide))
    assert "grid_sampler" in str(program.graph) and "deform" not in str(program.graph)
    torch.testing.assert_close(program.module()(feature, guide), block(feature, guide), rtol=1e-5, atol=1e-5)


def test_a_new_block_reads_the_grid_at_half_weight():
    block = DeformableConvolution(8, groups=2)
    feature, guide = torch.randn(2, 1, 8, 5, 5)
    torch.testing.assert_close(block(feature, guide), 0.5 * F.conv2d(feature, block.weight, padding=1))


def test_with_and_without_gradients_it_gives_the_same():
    block = DeformableConvolution(64).eval()
    torch.nn.init.normal_(block.offsets.weight, std=0.02)
    feature, guide = torch.randn(2, 1, 64, 32, 33)
    with torch.no_grad():
        fast = block(feature, guide)
    torch.testing.assert_close(fast, block(feature, guide), rtol=1e-4, atol=1e-4)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="DeformableConvolution: 6 channels do not divide into 4 groups"):
        DeformableConvolution(6)


def test_the_function_is_found_under_its_former_name():
    import codeprior.kernels
    import codeprior.layers

    with pytest.warns(DeprecationWarning, match="has moved to codeprior.kernels.deformable_convolution"):
        assert codeprior.layers.deformable_convolution is codeprior.kernels.deformable_convolution

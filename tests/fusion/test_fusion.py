"""Fusion of two latents."""

import pytest
import torch

import codeprior as cp
from codeprior.fusion import LinearFusion


def test_cross_attention_has_the_published_size():
    # four 1×1 convolutions and two normalisations of 256 channels
    assert sum(p.numel() for p in cp.CrossAttentionFusion().parameters()) == 264_192


def test_the_stream_is_kept_where_attention_says_nothing():
    fuse = cp.CrossAttentionFusion(16, heads=2, groups=4)
    torch.nn.init.zeros_(fuse.attention.project.weight)
    torch.nn.init.zeros_(fuse.attention.project.bias)
    stream, guide = torch.randn(2, 2, 16, 3, 3)
    assert torch.equal(fuse(stream=stream, guide=guide), stream)


def test_the_guide_asks_and_is_not_kept():
    fuse = cp.CrossAttentionFusion(16, heads=2, groups=4).double()
    stream, guide = torch.randn(2, 2, 16, 3, 3, dtype=torch.float64)
    # the guide enters through a group normalisation alone: scaling it must change nothing
    torch.testing.assert_close(fuse(stream, guide), fuse(stream, 100 * guide), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(fuse(stream, guide), fuse(stream, guide.flip(-1)))


def test_linear_fusion_is_one_linear_map_a_place():
    fuse = LinearFusion(4)
    stream, guide = torch.randn(2, 1, 4, 2, 2)
    weight, bias = fuse.join.weight[:, :, 0, 0], fuse.join.bias
    expected = weight[:, :4] @ stream[0, :, 1, 0] + weight[:, 4:] @ guide[0, :, 1, 0] + bias
    torch.testing.assert_close(fuse(stream, guide)[0, :, 1, 0], expected)


def test_different_grids_are_refused():
    with pytest.raises(ValueError, match="they must be equal"):
        cp.CrossAttentionFusion(16, heads=2, groups=4)(torch.zeros(1, 16, 2, 2), torch.zeros(1, 16, 4, 4))

"""Residual, attention and resampling blocks against their formulas, written out."""

import pytest
import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from codeprior.kernels import group_norm_silu
from codeprior.layers import (
    AttentionBlock,
    Downsample,
    ResidualBlock,
    SelfAttentionLayer,
    Upsample,
    group_norm,
    normed_convolution,
    pointwise,
)

# float64 throughout: what remains between two orders of summation is far below this
EXACT = {"rtol": 1e-10, "atol": 1e-10}


def _attention(query, key, value, heads):
    """Softmax attention, one head and one place at a time."""
    channels = query.shape[1] // heads
    parts = []
    for head in range(heads):
        mine = slice(head * channels, (head + 1) * channels)
        q, k, v = (rearrange(t[:, mine], "b c h w -> b (h w) c") for t in (query, key, value))
        scores = torch.einsum("b n c, b m c -> b n m", q * channels**-0.5, k)
        parts.append(torch.einsum("b n m, b m c -> b n c", scores.softmax(-1), v))
    return rearrange(torch.cat(parts, -1), "b (h w) c -> b c h w", h=query.shape[2])


@given(st.integers(1, 5), st.integers(1, 5), st.sampled_from([1, 2, 4]))
def test_a_guided_block_keeps_the_stream_and_lets_the_guide_ask(height, width, heads):
    torch.manual_seed(0)
    block = AttentionBlock(8, heads=heads, guided=True, groups=4).double()
    stream, guide = torch.randn(2, 2, 8, height, width, dtype=torch.float64)
    source = block.norm(stream)
    answer = _attention(block.query(block.norm_guide(guide)), block.key(source), block.value(source), heads)
    torch.testing.assert_close(block(stream, guide), stream + block.project(answer), **EXACT)


def test_an_unguided_block_asks_itself():
    block = AttentionBlock(8, groups=4).double()
    stream = torch.randn(2, 8, 3, 4, dtype=torch.float64)
    source = block.norm(stream)
    answer = _attention(block.query(source), block.key(source), block.value(source), 1)
    torch.testing.assert_close(block(stream), stream + block.project(answer), **EXACT)


def test_attention_errors_say_what_to_do():
    stream = torch.zeros(1, 8, 2, 2)
    with pytest.raises(ValueError, match="built for no guide; set guided=True"):
        AttentionBlock(8, groups=4)(stream, stream)
    with pytest.raises(ValueError, match="built for a guide; set guided=False"):
        AttentionBlock(8, guided=True, groups=4)(stream)
    with pytest.raises(ValueError, match=r"guide has shape \(1, 8, 3, 2\), the stream \(1, 8, 2, 2\)"):
        AttentionBlock(8, guided=True, groups=4)(stream, torch.zeros(1, 8, 3, 2))
    with pytest.raises(ValueError, match="8 channels do not divide into 3 heads"):
        AttentionBlock(8, heads=3, groups=4)
    with pytest.raises(ValueError, match="8 channels do not divide into 32 groups"):
        group_norm(8)


@pytest.mark.parametrize("out", [8, 16])
def test_a_residual_block_is_its_formula(out):
    block = ResidualBlock(8, out, groups=4).double()
    feature = torch.randn(2, 8, 5, 6, dtype=torch.float64)
    swish = lambda x: x * torch.sigmoid(x)
    hidden = block.conv1(swish(block.norm1(feature)))
    skip = feature if out == 8 else block.skip(feature)
    torch.testing.assert_close(block(feature), skip + block.conv2(swish(block.norm2(hidden))), **EXACT)


def test_downsampling_pads_on_the_right_and_at_the_bottom_only():
    block = Downsample(1)
    torch.nn.init.zeros_(block.conv.weight)
    torch.nn.init.zeros_(block.conv.bias)
    block.conv.weight.data[0, 0, 0, 0] = 1  # the corner tap reads the top left pixel of each 2×2 step
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert block(image).tolist() == [[[[0.0, 2.0], [8.0, 10.0]]]]
    block.conv.weight.data.zero_()[0, 0, 2, 2] = 1  # the far tap reads the padding at the edges
    assert block(image).tolist() == [[[[10.0, 0.0], [0.0, 0.0]]]]


def test_upsampling_repeats_each_place():
    block = Upsample(1)
    torch.nn.init.dirac_(block.conv.weight)
    torch.nn.init.zeros_(block.conv.bias)
    assert block(torch.tensor([[[[1.0, 2.0]]]])).tolist() == [[[[1, 1, 2, 2], [1, 1, 2, 2]]]]


def test_a_transformer_layer_equals_torchs_multihead_attention():
    torch.manual_seed(0)
    layer = SelfAttentionLayer(16, heads=4, hidden=32).double()
    tokens, position = torch.randn(2, 6, 16, dtype=torch.float64), torch.randn(6, 16, dtype=torch.float64)
    whole = torch.nn.MultiheadAttention(16, 4, batch_first=True).double()
    whole.in_proj_weight.data, whole.in_proj_bias.data = layer.query_key_value.weight, layer.query_key_value.bias
    whole.out_proj.weight.data, whole.out_proj.bias.data = layer.project.weight, layer.project.bias
    value = layer.norm1(tokens)
    hidden = tokens + whole(value + position, value + position, value)[0]
    expected = hidden + layer.contract(F.gelu(layer.expand(layer.norm2(hidden))))
    torch.testing.assert_close(layer(tokens, position), expected, **EXACT)


def test_a_transformer_layer_starts_as_torchs_does():
    layer = SelfAttentionLayer(64, heads=4, hidden=32)
    bound = (6 / (64 + 192)) ** 0.5
    assert layer.query_key_value.weight.abs().max() <= bound
    # uniform in ±bound: standard deviation bound/√3; 12,288 draws put the sample within 2 % (over 4 sigma)
    assert layer.query_key_value.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert not layer.query_key_value.bias.any() and not layer.project.bias.any()


@given(
    height=st.integers(32, 41),
    width=st.integers(32, 41),
    which=st.sampled_from(["block", "wider", "up", "down", "out"]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=10)
def test_inference_gives_what_training_gives(height, width, which, seed):
    """Without gradients the same sums are taken in other orders, by other kernels."""
    torch.manual_seed(seed)
    make = {"block": ResidualBlock, "wider": lambda size: ResidualBlock(size, 32), "up": Upsample, "down": Downsample}
    if which == "out":
        parts = nn.ModuleList([group_norm(64), nn.Conv2d(64, 16, 3, padding=1)])
        run = lambda feature: normed_convolution(*parts, feature=feature)
    else:
        parts = run = make[which](64)
    feature = torch.randn(1, 64, height, width)
    with torch.no_grad():
        inferred = run(feature)
    trained = run(feature).detach()
    parts.double()
    exact = run(feature.double()).detach()
    # what the convolutions add: rounding grows with their sums, not with the answer at a place, which may be near zero
    added = exact - feature.double() if which == "block" else exact
    # two convolutions of 576 float32 terms a sum, in units of the sums' deviation. Winograd's transforms round some six
    # times as coarsely, and most where large numbers cancel: in 80 draws of layers and features the root of the mean
    # square was 2.4e-6 at worst, and the largest error among 100,000 places 5.9e-5 (4.8e-5 with fused multiply-adds)
    for answer, typical, largest in ((inferred, 4e-6, 1.2e-4), (trained, 1e-6, 2e-5)):
        off = (answer - exact) / added.std()
        assert off.square().mean().sqrt() <= typical
        assert off.abs().max() <= largest


def test_hooks_are_called_with_and_without_gradients():
    norm, last, seen = group_norm(64), nn.Conv2d(64, 16, 3, padding=1), []
    last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    normed_convolution(norm, last, feature=torch.randn(1, 64, 5, 6))
    with torch.no_grad():
        normed_convolution(norm, last, feature=torch.randn(1, 64, 32, 32))
    assert seen == [(1, 64, 5, 6), (1, 64, 32, 32)]


@pytest.mark.parametrize("activated", [False, True])
def test_a_norm_of_many_places_is_as_exact_where_channels_lie_together(activated):
    # PyTorch's own is off by 3e-4 then
    feature = 2 * torch.randn(1, 32, 512, 512, generator=torch.Generator().manual_seed(0)) + 1
    norm, given = group_norm(32, groups=16), feature.contiguous(memory_format=torch.channels_last)
    expected = torch.nn.functional.group_norm(feature.double(), 16, eps=1e-6)
    with torch.no_grad():
        if activated:
            expected = torch.nn.functional.silu(expected)
            found = group_norm_silu(given, norm.weight, norm.bias, groups=16, impl="reference")
        else:
            found = norm(given)
    assert (found - expected).abs().max() < 2e-6


@pytest.mark.parametrize("crashes", [True, False], ids=["as before PyTorch 2.14", "as here"])
def test_a_norm_that_learns_from_fixed_channels_last_features_goes_backward(crashes, monkeypatch):
    """Up to 2.13 PyTorch's own backward pass of such features ends the process."""
    if crashes:
        monkeypatch.setattr("codeprior.layers.norm._CRASHES", True)
    norm, feature = group_norm(16, groups=4), torch.randn(2, 16, 8, 8)
    gradients = []
    for taken in (feature, feature.to(memory_format=torch.channels_last)):
        norm.zero_grad()
        norm(taken).square().sum().backward()
        gradients.append((norm.weight.grad.clone(), norm.bias.grad.clone()))
    for first, second in zip(*gradients, strict=True):
        assert torch.allclose(first, second, rtol=1e-4, atol=1e-4)
    assert norm(feature.to(memory_format=torch.channels_last)).is_contiguous() or not crashes


def test_a_pointwise_convolution_keeps_a_feature_whose_channels_lie_together():
    torch.manual_seed(0)
    layer, feature = nn.Conv2d(8, 6, 1), torch.randn(2, 8, 5, 7)
    together = feature.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        found = pointwise(layer, together)
        assert found.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(found, layer(feature), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(pointwise(layer, feature), layer(feature), rtol=0, atol=0)
        layer.register_forward_hook(lambda module, given, answer: answer + 1)
        torch.testing.assert_close(pointwise(layer, together), found + 1, rtol=1e-5, atol=1e-6)
    assert pointwise(layer, together.requires_grad_()).requires_grad

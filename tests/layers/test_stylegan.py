"""StyleGAN2's layers against recorded ones, against formulas written out, and differentiated twice."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from einops import rearrange
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from codeprior.layers import (
    Blur,
    DownBlock,
    EqualisedConvolution,
    EqualisedLinear,
    ModulatedConvolution,
    StyledConvolution,
    ToRGB,
    batch_deviation,
    resolutions_of,
    stylegan_channels,
    upfirdn,
)
from tests.parity.gpen_layers import RECORDED

FIXTURES = Path(__file__).parents[1] / "parity" / "fixtures" / "gpen"
EXACT = {"rtol": 1e-10, "atol": 1e-10}


@pytest.mark.parametrize("name", RECORDED)
def test_layers_are_the_recorded_ones(name: str):
    with np.load(FIXTURES / "stylegan_ops.npz") as stored, torch.no_grad():
        # of values up to 10: rounding of float32
        torch.testing.assert_close(RECORDED[name](), torch.from_numpy(stored[name]), rtol=1e-5, atol=1e-5)


def test_no_recorded_layer_is_left_out():
    with np.load(FIXTURES / "stylegan_ops.npz") as stored:
        assert set(stored.files) == set(RECORDED)


@settings(deadline=None, max_examples=30)
@given(
    st.integers(1, 6), st.integers(1, 6), st.integers(1, 3), st.integers(1, 3), st.integers(-1, 3), st.integers(0, 3),
    st.integers(1, 4),
)  # fmt: skip
def test_upfirdn_is_its_definition(height, width, up, down, before, after, count):
    if height * up + before + after < count or width * up + before + after < count:
        return
    torch.manual_seed(0)
    feature, taps = torch.randn(1, 2, height, width).double(), torch.randn(count).double()
    spread = torch.zeros(1, 2, height * up, width * up).double()
    spread[:, :, ::up, ::up] = feature
    padded = F.pad(spread, (before, after, before, after))
    rows, columns = padded.shape[-2] - count + 1, padded.shape[-1] - count + 1
    whole = torch.zeros(1, 2, rows, columns).double()
    for y in range(count):
        for x in range(count):
            # a true convolution: the filter is turned round
            whole += taps[count - 1 - y] * taps[count - 1 - x] * padded[..., y : y + rows, x : x + columns]
    found = upfirdn(feature, taps, up=up, down=down, pad=(before, after))
    torch.testing.assert_close(found, whole[..., ::down, ::down], **EXACT)


def test_a_constant_keeps_its_value_through_every_change_of_size():
    feature = torch.full((1, 1, 12, 12), 3.0)
    for blur, inside in (
        (Blur((2, 1)), slice(2, -2)), (Blur((2, 1), up=2, gain=4), slice(4, -4)), (Blur((1, 1), down=2), slice(2, -2)),
    ):  # fmt: skip
        torch.testing.assert_close(blur(feature)[..., inside, inside], feature[..., :1, :1].expand_as(
            blur(feature)[..., inside, inside]
        ))  # fmt: skip


def test_each_sample_is_convolved_with_its_own_weights():
    layer = ModulatedConvolution(3, 5, dim=4).double()
    feature, style = torch.randn(2, 3, 7, 6).double(), torch.randn(2, 4).double()
    scale = (style @ layer.modulation.weight.T / 2 + layer.modulation.bias) / math.sqrt(27)
    for sample in range(2):
        weight = layer.weight * scale[sample, None, :, None, None]
        weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        alone = F.conv2d(feature[sample : sample + 1], weight, padding=1)
        torch.testing.assert_close(layer(feature, style)[sample : sample + 1], alone, **EXACT)


@pytest.mark.parametrize("resampling", ["none", "up", "down", "bilinear"])
def test_modulated_convolutions_can_be_differentiated_twice(resampling):
    torch.manual_seed(0)
    layer = ModulatedConvolution(2, 2, dim=3, resampling=resampling).double()
    feature, style = torch.randn(2, 2, 4, 4).double(), torch.randn(2, 3).double()
    arguments = feature.requires_grad_(), style.requires_grad_()
    assert torch.autograd.gradcheck(layer, arguments)
    assert torch.autograd.gradgradcheck(layer, arguments)


@pytest.mark.parametrize("noise", ["concatenated", "added"])
def test_styled_convolutions_and_pictures_can_be_differentiated_twice(noise):
    torch.manual_seed(0)
    styled, rgb = StyledConvolution(2, 2, dim=3, up=True, noise=noise).double(), ToRGB(2, dim=3).double()
    nn.init.constant_(styled.noise_weight, 0.5)
    shapes = (2, 2, 2, 2), (2, 3), (2, 2, 4, 4), (2, 3, 1, 1)
    feature, style, given, small = (torch.randn(*shape).double().requires_grad_() for shape in shapes)
    assert torch.autograd.gradgradcheck(styled, (feature, style, given))
    assert torch.autograd.gradgradcheck(rgb, (feature, style, small))


def test_discriminator_blocks_and_the_batch_deviation_can_be_differentiated_twice():
    torch.manual_seed(0)
    block, feature = DownBlock(2, 2).double(), torch.randn(2, 2, 4, 4).double().requires_grad_()
    assert torch.autograd.gradcheck(block, feature)
    assert torch.autograd.gradgradcheck(block, feature)
    assert torch.autograd.gradgradcheck(batch_deviation, feature)


def test_the_deviation_of_groups_is_as_defined():
    feature = torch.randn(4, 3, 2, 2).double()
    found = batch_deviation(feature, group=2)
    for one, other in ((0, 2), (1, 3)):
        pair = torch.stack((feature[one], feature[other]))
        expected = (pair.var(0, unbiased=False) + 1e-8).sqrt().mean()
        torch.testing.assert_close(found[one], expected.expand(1, 2, 2), **EXACT)
        torch.testing.assert_close(found[other], expected.expand(1, 2, 2), **EXACT)
    whole = (feature.var(0, unbiased=False) + 1e-8).sqrt().mean()
    torch.testing.assert_close(batch_deviation(feature), whole.expand(4, 1, 2, 2), **EXACT)
    assert batch_deviation(feature[:1]).unique().item() == pytest.approx(1e-4)
    with pytest.raises(ValueError, match=r"batch of 4 does not divide into groups of 3"):
        batch_deviation(feature, group=3)


def test_every_layer_starts_with_unit_variance_where_its_rate_is_applied():
    torch.manual_seed(0)
    layer = EqualisedLinear(400, 300, rate=0.01)
    assert layer.weight.std().item() == pytest.approx(100, rel=0.02)
    assert layer(torch.randn(64, 400)).std().item() == pytest.approx(1, rel=0.05)
    assert EqualisedConvolution(8, 64).weight.std().item() == pytest.approx(1, rel=0.05)


def test_noise_that_does_not_fit_is_refused():
    feature, style = torch.zeros(1, 2, 4, 4), torch.zeros(1, 3)
    with pytest.raises(ValueError, match=r"concatenated noise has the shape of the features, \(2, 4, 4\), got none"):
        StyledConvolution(2, 2, dim=3, noise="concatenated")(feature, style)
    with pytest.raises(ValueError, match="noise was given to a network that was built with noise='none'"):
        StyledConvolution(2, 2, dim=3, noise="none")(feature, style, feature)
    with pytest.raises(ValueError, match="noise is 'concatenated', 'added' or 'none', got 'loud'"):
        StyledConvolution(2, 2, dim=3, noise="loud")
    for size in (0, 4, 12, 100):
        with pytest.raises(ValueError, match=rf"asker: expected a size that is a power of two, 8 or more, got {size}"):
            resolutions_of("asker", size)


def test_a_modulated_convolution_says_what_it_takes():
    layer = ModulatedConvolution(4, 3, dim=5)
    for channels, width in ((3, 5), (4, 6)):
        with pytest.raises(ValueError, match=f"4 channels and styles of width 5, got {channels} and {width}"):
            layer(torch.zeros(2, channels, 4, 4), torch.zeros(2, width))
    with pytest.raises(ValueError, match="expected an odd kernel, which keeps the grid, got 2"):
        ModulatedConvolution(4, 3, kernel=2)
    with pytest.raises(ValueError, match="resampling is 'none', 'up', 'down' or 'bilinear', got 'sideways'"):
        ModulatedConvolution(4, 3, resampling="sideways")


@pytest.mark.parametrize("noise", ["concatenated", "added"])
def test_styled_convolutions_run_in_bfloat16_in_channels_last_and_compiled(noise):
    torch.manual_seed(0)
    layer, style = StyledConvolution(4, 4, dim=5, up=True, noise=noise), torch.randn(2, 5)
    nn.init.constant_(layer.noise_weight, 0.5)
    feature, given = torch.randn(2, 4, 6, 6), torch.randn(2, 4, 12, 12)
    expected = layer(feature, style, given)
    last = feature.to(memory_format=torch.channels_last)
    torch.testing.assert_close(layer(last, style, given), expected, rtol=1e-5, atol=1e-5)
    compiled = torch.compile(layer, backend="eager", fullgraph=True, dynamic=True)
    torch.testing.assert_close(compiled(feature, style, given), expected, rtol=1e-5, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = layer(feature, style, given)
    # bfloat16 keeps 8 bits of each product; a whole synthesis is out by 0.036 of its deviation
    assert (found.float() - expected).abs().max() < 0.1 * expected.std()


def test_channels_are_those_of_the_published_networks():
    assert [stylegan_channels(side) for side in (4, 32, 64, 512, 2048)] == [512, 512, 512, 64, 16]
    sizes = json.loads((FIXTURES / "keys_gpen_256.json").read_text())["generator"]
    shapes = {key: shape for key, shape, _ in sizes}
    assert [stylegan_channels(4 * 2**n, multiplier=1, narrow=0.5) for n in range(7)] == [
        shapes[f"ecd{6 - n}.0.{0 if n == 6 else 1}.weight"][0] for n in range(7)
    ]


def test_a_filter_gives_every_channel_the_same():
    feature = torch.randn(1, 3, 5, 6)
    found = Blur((2, 1))(feature)
    alone = Blur((2, 1))(rearrange(feature, "1 c h w -> c 1 h w"))
    torch.testing.assert_close(rearrange(found, "1 c h w -> c 1 h w"), alone)


@pytest.mark.parametrize("resampling", ["none", "up", "down", "bilinear"])
@pytest.mark.parametrize("demodulated", [True, False])
def test_an_exported_convolution_gives_the_same_without_groups(resampling, demodulated, monkeypatch):
    layer = ModulatedConvolution(4, 6, dim=5, demodulated=demodulated, resampling=resampling).double()
    feature, style = torch.randn(3, 4, 8, 8).double(), torch.randn(3, 5).double()
    expected = layer(feature, style)
    monkeypatch.setattr("codeprior.layers.stylegan.exporting", lambda: True)
    torch.testing.assert_close(layer(feature, style), expected, **EXACT)

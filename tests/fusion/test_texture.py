"""AdaIN takes statistics over, textures are warped to the picture, transforms obey their weight."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import codeprior as cp
from codeprior.fusion import ControllableTransform, FidelityTaps, TextureBranch, TextureWarp, adain
from codeprior.layers import Recorder


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 6), st.integers(1, 6), st.integers(2, 9), st.floats(0.2, 9), st.floats(-5, 5))
def test_adain_takes_over_mean_and_deviation(height, width, other, spread, centre):
    torch.manual_seed(height * width)
    stream = torch.randn(2, 3, height, width, dtype=torch.float64)
    guide = spread * torch.randn(2, 3, other, other, dtype=torch.float64) + centre
    answer = adain(stream, guide)
    torch.testing.assert_close(answer.mean((2, 3)), guide.mean((2, 3)))
    # the 1e-5 under the root is part of both deviations
    spreads = (stream.var((2, 3)) / (stream.var((2, 3)) + 1e-5)).sqrt() * (guide.var((2, 3)) + 1e-5).sqrt()
    torch.testing.assert_close(answer.std((2, 3)), spreads)


def test_adain_refuses_what_has_no_statistics():
    with pytest.raises(ValueError, match=r"adain: the stream has batch and dimension \(1, 3\), the guide \(1, 4\)"):
        adain(torch.zeros(1, 3, 2, 2), torch.zeros(1, 4, 2, 2))
    with pytest.raises(ValueError, match="adain: expected grids of two places at least"):
        adain(torch.zeros(1, 3, 1, 1), torch.zeros(1, 3, 2, 2))


def test_a_transform_is_its_formula_and_obeys_a_weight_for_each_sample():
    torch.manual_seed(0)
    block = ControllableTransform(4, 2, groups=2).double()
    feature, guide = torch.randn(2, 4, 5, 5).double(), torch.randn(2, 2, 5, 5).double()
    joined = block.join(torch.cat((guide, feature), 1))
    whole = feature + feature * block.scale(joined) + block.shift(joined)
    torch.testing.assert_close(block(feature, guide), whole)
    each = block(feature, guide, torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1))
    torch.testing.assert_close(each, torch.stack((feature[0], whole[1])))


def test_taps_take_transforms_and_a_plain_weight_for_each_sample():
    torch.manual_seed(0)
    sizes = {"channels": 8, "multipliers": (1, 2), "blocks": 2, "attention": (), "groups": 4}
    encoder, decoder = cp.VQGANEncoder(6, **sizes), cp.VQGANDecoder(6, **sizes)
    taps = FidelityTaps([1, 2], [8, 16], [8, 16], groups=4, kind="transform")
    recorder = taps.recorder()
    values = encoder(torch.rand(2, 3, 8, 8), taps=recorder.taps)
    each = decoder(values, taps=taps(recorder, weight=torch.tensor([0.0, 1.0])))
    torch.testing.assert_close(each[0], decoder(values)[0])
    torch.testing.assert_close(each[1], decoder(values, taps=taps(recorder))[1])
    assert not torch.allclose(each[1], decoder(values)[1])
    with pytest.raises(ValueError, match="FidelityTaps: expected kind 'modulation' or 'transform', got 'other'"):
        FidelityTaps([1], [8], [8], kind="other")


@pytest.mark.parametrize("bilinear", [True, False])
@pytest.mark.parametrize("size", [(8, 8), (16, 8)])
def test_a_branch_reads_a_decoder_and_follows_the_picture(bilinear, size):
    torch.manual_seed(0)
    sizes = {"channels": 8, "multipliers": (1, 2, 2), "blocks": 1, "attention": (), "groups": 4}
    decoder = cp.VQGANDecoder(6, **sizes)
    branch = TextureBranch(list(decoder.tap_channels.values()), condition_channels=4, bilinear=bilinear, groups=4)
    for warp in branch.warps:
        torch.nn.init.normal_(warp.warp.offsets.weight, std=0.1)  # a new warp does not move anything
    recorder = Recorder(branch.places)
    decoder(torch.randn(1, 6, size[0] // 4, size[1] // 4), taps=recorder.taps)
    image = torch.rand(1, 3, *size, requires_grad=True)
    answer = branch(recorder.features, image)
    assert answer.shape == (1, 8, *size)
    answer.sum().backward()
    assert image.grad is not None and image.grad.abs().sum() > 0
    assert all(value.grad is not None for value in branch.parameters())


def test_a_warp_without_its_trace_is_refused():
    texture, condition = torch.zeros(1, 8, 4, 4), torch.zeros(1, 2, 4, 4)
    with pytest.raises(ValueError, match="TextureWarp: this warp was built for a trace"):
        TextureWarp(8, 2, before=4, groups=4)(texture, condition)
    with pytest.raises(ValueError, match="TextureWarp: this warp was built for no trace"):
        TextureWarp(8, 2, groups=4)(texture, condition, texture)


def test_a_branch_follows_a_decoder_that_shuffles_pixels_at_its_end():
    torch.manual_seed(0)
    sizes = {"channels": 8, "multipliers": (1, 2), "blocks": 1, "attention": (), "groups": 4}
    decoder = cp.VQGANDecoder(6, unshuffle=2, **sizes)
    branch = TextureBranch(list(decoder.tap_channels.values()), condition_channels=4, groups=4, finest=2)
    assert branch.strides == [4, 2] == sorted(decoder.tap_channels, reverse=True)
    recorder = Recorder(branch.places)
    decoder(torch.randn(1, 6, 4, 6), taps=recorder.taps)
    # the grid of the finest texture is half as fine as the picture
    assert branch(recorder.features, torch.rand(1, 3, 16, 24)).shape == (1, 8, 8, 12)


@pytest.mark.parametrize("gradients", [True, False])
def test_a_hook_on_any_part_of_a_warp_sees_what_it_gives(gradients):
    warp, called = TextureWarp(8, 2, before=4, rate=2, convolved=True, groups=4), set()
    parts = {name: part for name, part in warp.named_modules() if name}
    for name, part in parts.items():
        part.register_forward_hook(lambda _, __, given, name=name: called.add((name, tuple(given.shape))))
    with torch.set_grad_enabled(gradients):
        answer = warp(torch.randn(1, 8, 32, 32), torch.randn(1, 2, 64, 64), torch.randn(1, 4, 32, 32))
    assert {name for name, _ in called} == set(parts)
    assert ("join", tuple(answer.trace.shape)) in called

"""Fidelity taps: nothing at first, nothing at weight 0, and the guide in between."""

import pytest
import torch

import codeprior as cp
from codeprior.fusion import ControllableTransform, FeatureModulation, FidelityTaps
from codeprior.kernels import _compile

SIZES = {"channels": 8, "multipliers": (1, 2), "blocks": 2, "attention": (), "groups": 4, "unshuffle": 2}


def _parts():
    torch.manual_seed(0)
    encoder, decoder = cp.VQGANEncoder(6, **SIZES), cp.VQGANDecoder(6, **SIZES)
    taps = FidelityTaps([2, 4], [8, 16], [8, 16], hidden=8, groups=4)
    return encoder, decoder, taps


def _moved(taps):
    for modulation in taps.modulations:
        torch.nn.init.normal_(modulation.write.weight, std=0.1)


def _answer(encoder, decoder, taps, image, weight):
    recorder = taps.recorder()
    values = encoder(torch.zeros_like(image))
    encoder(image, taps=recorder.taps)
    return decoder(values, taps=taps(recorder, weight=weight)), decoder(values)


def test_fresh_taps_change_nothing():
    encoder, decoder, taps = _parts()
    tapped, bare = _answer(encoder, decoder, taps, torch.rand(2, 3, 16, 16), 1.0)
    assert torch.equal(tapped, bare)


def test_weight_zero_is_the_priors_word_and_one_each_sample_is_its_own():
    encoder, decoder, taps = _parts()
    _moved(taps)
    image = torch.rand(2, 3, 16, 16)
    tapped, bare = _answer(encoder, decoder, taps, image, 0.0)
    assert torch.equal(tapped, bare)
    whole, bare = _answer(encoder, decoder, taps, image, 1.0)
    assert not torch.allclose(whole, bare)
    each, _ = _answer(encoder, decoder, taps, image, torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1))
    # the batch is computed together in both, so the bits agree
    assert torch.equal(each[0], bare[0]) and torch.equal(each[1], whole[1])


def test_gradients_reach_the_taps_through_a_frozen_decoder():
    encoder, decoder, taps = _parts()
    encoder.requires_grad_(False), decoder.requires_grad_(False)
    tapped, _ = _answer(encoder, decoder, taps, torch.rand(1, 3, 16, 16), 1.0)
    tapped.square().mean().backward()
    assert all(modulation.write.weight.grad.abs().sum() > 0 for modulation in taps.modulations)


def test_modulation_is_its_formula():
    block = FeatureModulation(4, 2, hidden=3, groups=2).double()
    torch.nn.init.normal_(block.write.weight)
    feature, guide = torch.randn(1, 4, 5, 5).double(), torch.randn(1, 2, 5, 5).double()
    normed = block.norm(feature)
    scale, shift = block.write(torch.nn.functional.silu(block.read(torch.cat((normed, guide), 1)))).chunk(2, 1)
    torch.testing.assert_close(block(feature, guide, 0.25), feature + 0.25 * (scale * normed + shift))


def test_lists_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="expected as many channels as strides, got 2 strides, 1 and 2 channels"):
        FidelityTaps([2, 4], [8], [8, 16])


@pytest.mark.parametrize("kind", [FeatureModulation, ControllableTransform])
def test_without_gradients_all_its_convolutions_are_the_fast_ones(kind):
    if reason := _compile.why_not("convolution"):
        pytest.skip(reason)
    block = kind(32, 32, groups=8).eval()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    feature, guide = torch.randn(2, 1, 32, 40, 40)
    with torch.no_grad(), torch.profiler.profile() as seen:
        fast = block(feature, guide, 0.7)
    counts = {event.key: event.count for event in seen.key_averages()}
    assert counts["codeprior::convolution"] == sum(part.kernel_size == (3, 3) for part in _convolutions(block))
    torch.testing.assert_close(fast, block(feature, guide, 0.7), rtol=1e-4, atol=1e-4)


def _convolutions(block: torch.nn.Module) -> list[torch.nn.Conv2d]:
    return [part for part in block.modules() if isinstance(part, torch.nn.Conv2d)]

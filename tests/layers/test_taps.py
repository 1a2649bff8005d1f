"""Taps: features read and changed at their place, and nowhere else; squares of pixels as channels."""

import pytest
import torch

import codeprior as cp
from codeprior.layers import Recorder, Tap

SIZES = {"channels": 8, "multipliers": (1, 2), "blocks": 2, "attention": (-1,), "groups": 4}


def _pair(**changes):
    torch.manual_seed(0)
    return cp.VQGANEncoder(6, **(SIZES | changes)), cp.VQGANDecoder(6, **(SIZES | changes))


@pytest.mark.parametrize("unshuffle", [1, 2, 4])
def test_the_stride_counts_the_squares_of_pixels(unshuffle):
    encoder, decoder = _pair(unshuffle=unshuffle)
    image = torch.rand(2, 3, 16, 16)
    latent = encoder(image)
    assert encoder.stride == decoder.stride == 2 * unshuffle
    assert latent.shape == (2, 6, 16 // encoder.stride, 16 // encoder.stride)
    assert decoder(latent).shape == image.shape
    assert encoder.tap_channels == decoder.tap_channels == {unshuffle: 8, 2 * unshuffle: 16}


def test_unshuffling_loses_no_pixel():
    encoder, _ = _pair(unshuffle=2)
    image = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        encoder.conv_in.weight.zero_()
        encoder.conv_in.bias.zero_()
    flat = encoder(image)
    with torch.no_grad():
        encoder.conv_in.weight.normal_()
    for row, column in ((0, 0), (3, 4), (7, 7)):
        changed = image.clone()
        changed[0, :, row, column] += 1
        assert not torch.equal(encoder(changed), encoder(image))
    assert not torch.equal(flat, encoder(image))


@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_a_tap_that_gives_back_what_it_got_changes_nothing(side):
    encoder, decoder = _pair()
    net, given = (encoder, torch.rand(1, 3, 8, 8)) if side == "encoder" else (decoder, torch.rand(1, 6, 4, 4))
    recorder = Recorder([Tap(1, 0), Tap(1), Tap(2, 0), Tap(2, 1)])
    assert torch.equal(net(given, taps=recorder.taps), net(given))
    shapes = {place: tuple(feature.shape[1:]) for place, feature in recorder.features.items()}
    assert shapes == {Tap(1, 0): (8, 8, 8), Tap(1): (8, 8, 8), Tap(2, 0): (16, 4, 4), Tap(2, 1): (16, 4, 4)}


@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_what_a_tap_returns_goes_on(side):
    encoder, decoder = _pair()
    net, given = (encoder, torch.rand(1, 3, 8, 8)) if side == "encoder" else (decoder, torch.rand(1, 6, 4, 4))
    for place in (Tap(1, 0), Tap(1, 1), 2):
        assert not torch.allclose(net(given, taps={place: torch.relu}), net(given))


def test_a_bare_stride_is_the_end_of_its_level():
    _, decoder = _pair()
    values, seen = torch.rand(1, 6, 4, 4), []
    decoder(values, taps={2: lambda feature: seen.append(feature) or feature})
    decoder(values, taps={Tap(2, 1): lambda feature: seen.append(feature) or feature})
    decoder(values, taps={Tap(2, 0): lambda feature: seen.append(feature) or feature})
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], seen[2])


def test_places_that_are_not_there_are_named():
    encoder, decoder = _pair()
    with pytest.raises(ValueError, match=r"VQGANDecoder: no feature has stride 4; taps go at strides \[1, 2\]"):
        decoder(torch.zeros(1, 6, 4, 4), taps={4: torch.relu})
    with pytest.raises(ValueError, match="VQGANEncoder: a tap asks for block 2 of a level, which has 2 blocks"):
        encoder(torch.zeros(1, 3, 8, 8), taps={Tap(1, 2): torch.relu})
    with pytest.raises(ValueError, match="VQGANEncoder: two taps at stride 1, block 1"):
        encoder(torch.zeros(1, 3, 8, 8), taps={Tap(1, 1): torch.relu, Tap(1, -1): torch.tanh})

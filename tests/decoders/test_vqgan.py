"""The decoder and its taps."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import codeprior as cp


def _decoder():
    return cp.VQGANDecoder(6, channels=8, multipliers=(1, 2, 2), blocks=1, groups=4)


def test_the_defaults_are_the_published_decoder():
    with torch.device("meta"):
        decoder = cp.VQGANDecoder()
    # 42,867,203 parameters and the 1×1 convolution (65,792), less 4 normalisations that the reference never uses
    assert sum(p.numel() for p in decoder.parameters()) == 42_867_203 + 65_792 - 4 * 2 * 512
    assert decoder.stride == 32


@settings(max_examples=10)
@given(st.integers(1, 4), st.integers(1, 4))
def test_any_grid_runs(rows, columns):
    assert _decoder()(torch.zeros(1, 6, rows, columns)).shape == (1, 3, 4 * rows, 4 * columns)


def test_taps_see_the_feature_of_their_stride_and_decide_what_goes_on():
    decoder = _decoder().double()
    values = torch.randn(1, 6, 3, 2, dtype=torch.float64)
    seen = {}

    def keep(stride):
        def tap(feature):
            seen[stride] = tuple(feature.shape)
            return feature

        return tap

    plain = decoder(values)
    assert torch.equal(decoder(values, {4: keep(4), 2: keep(2), 1: keep(1)}), plain)
    assert seen == {4: (1, 16, 3, 2), 2: (1, 16, 6, 4), 1: (1, 8, 12, 8)}
    blanked = decoder(values, {1: torch.zeros_like})
    # nothing but the bias is left of a zero feature: the same pixel everywhere, away from the padded edge
    assert torch.allclose(blanked[..., 5:7, 3:5], blanked[..., 4:5, 4:5])
    assert not torch.allclose(blanked, plain)


def test_a_tap_at_no_stride_is_refused():
    with pytest.raises(ValueError, match=r"no feature has stride 8; taps go at strides \[1, 2, 4\]"):
        _decoder()(torch.zeros(1, 6, 2, 2), {8: lambda feature: feature})


def test_the_last_layer_gives_the_image():
    decoder = _decoder()
    torch.nn.init.zeros_(decoder.last_layer.weight)
    torch.nn.init.constant_(decoder.last_layer.bias, 0.25)
    assert (decoder(torch.randn(1, 6, 2, 2)) == 0.25).all()

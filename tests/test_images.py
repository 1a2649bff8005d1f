"""The two pixel ranges and the two functions that cross between them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from codeprior import to_signed, to_unit


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=8))
def test_a_unit_image_survives_the_round_trip(values):
    unit = torch.tensor(values).reshape(1, 1, -1)
    # one rounding each way of numbers below 2: at most half a step of 2⁻²³ each
    assert torch.allclose(to_unit(to_signed(unit)), unit, rtol=0, atol=2**-23)


def test_the_ends_of_the_ranges_meet():
    assert to_signed(torch.tensor([[0.0, 0.5, 1.0]])).tolist() == [[-1.0, 0.0, 1.0]]
    assert to_unit(torch.tensor([[-1.0, 0.0, 1.0]])).tolist() == [[0.0, 0.5, 1.0]]


def test_overshoot_of_a_decoder_is_clamped():
    assert to_unit(torch.tensor([[-1.7, 1.2]])).tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize("cross", [to_signed, to_unit])
def test_integers_are_refused_because_their_range_is_unknown(cross):
    with pytest.raises(TypeError, match=f"{cross.__name__}: expected a floating-point image"):
        cross(torch.zeros(1, 3, 2, 2, dtype=torch.uint8))

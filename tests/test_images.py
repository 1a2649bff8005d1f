"""The pixel ranges and the functions that cross between them."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from codeprior import to_signed, to_unit
from codeprior.images import as_png, from_levels, resize, to_array, to_levels


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


def test_every_level_survives_the_round_trip_as_array_and_tensor():
    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    unit = from_levels(pixels)
    assert (unit.shape, unit.dtype) == ((3, 16, 16), torch.float32)
    assert torch.equal(unit[0].flatten(), torch.arange(256) / 255)
    assert np.array_equal(to_array(unit), pixels)
    assert torch.equal(from_levels(to_levels(unit)), unit)
    assert from_levels(np.stack([pixels, pixels])).shape == (2, 3, 16, 16)


def test_levels_are_the_nearest_and_stay_in_range():
    assert to_levels(torch.tensor([-0.2, 0.4 / 255, 0.6 / 255, 1.7])).tolist() == [0, 0, 1, 255]


def test_levels_are_of_eight_bits():
    with pytest.raises(TypeError, match="from_levels: expected 8-bit levels, got float32"):
        from_levels(np.zeros((2, 2, 3), np.float32))
    with pytest.raises(TypeError, match="from_levels: expected 8-bit levels, got torch.int64"):
        from_levels(torch.zeros(3, 2, 2, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"to_levels: expected a floating-point image in \[0, 1\], got torch.uint8"):
        to_levels(torch.zeros(3, 2, 2, dtype=torch.uint8))


def test_a_png_shows_the_first_images_side_by_side():
    images = torch.rand(3, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    with Image.open(io.BytesIO(as_png(images, most=2))) as shown:
        assert shown.size == (10, 4)
        assert np.array_equal(np.asarray(shown)[:, 5:], to_array(images[1]))


def test_conversions_say_which_shapes_they_take():
    for array in (np.zeros((4, 4), np.uint8), np.zeros((3, 4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8)):
        with pytest.raises(ValueError, match=r"from_levels: expected an array H W 3 or b H W 3, got \("):
            from_levels(array)
    with pytest.raises(ValueError, match=r"from_levels: expected a tensor 3 H W or b 3 H W, got \(4, 4, 3\); move its"):
        from_levels(torch.zeros(4, 4, 3, dtype=torch.uint8))
    for unit in (torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4)):
        with pytest.raises(ValueError, match=r"to_array: expected one image 3 H W, got \(1, .*; take one of a batch"):
            to_array(unit)
    with pytest.raises(ValueError, match=r"as_png: expected images b 3 H W, got \(3, 4, 4\); add a batch axis"):
        as_png(torch.zeros(3, 4, 4))
    with pytest.raises(ValueError, match=r"resize: expected images b c H W and a size of 1 or more, got .* and 0"):
        resize(torch.zeros(1, 3, 4, 4), 0)
    with pytest.raises(TypeError, match=r"resize: expected floating-point images in \[0, 1\], got torch.uint8"):
        resize(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), 2)


def test_what_is_clamped_is_clamped_and_what_is_no_number_stays_so():
    outside = torch.tensor([-300.0, 300.0, torch.nan], requires_grad=True)
    unit = to_unit(outside)
    assert unit[:2].tolist() == [0, 1] and bool(unit[2].isnan())
    (slope,) = torch.autograd.grad(unit[:2].sum(), outside)
    assert slope[:2].tolist() == [0, 0]

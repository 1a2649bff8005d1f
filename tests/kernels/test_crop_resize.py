"""Boxes of an image come out as PyTorch's own antialiased interpolation gives them, over every edge of the image."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.library import opcheck
from torch.nn import functional as F

from codeprior.kernels import ImplUnavailable, _compile, crop_resize
from codeprior.kernels.crop_resize.api import crop_resize_op


@pytest.fixture(autouse=True)
def _needs_a_compiler():
    if reason := _compile.why_not("crop_resize"):
        pytest.skip(reason)


def _image(height, width, channels=3, seed=0):
    return torch.rand(channels, height, width, generator=torch.Generator().manual_seed(seed))


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    boxes=st.lists(st.tuples(*[st.integers(-30, 70)] * 2, *[st.integers(-2, 60)] * 2), max_size=5),
    size=st.one_of(st.integers(1, 25), st.tuples(st.integers(1, 25), st.integers(1, 25))),
    channels=st.sampled_from([1, 3]),
    antialias=st.booleans(),
    levels=st.booleans(),
)
def test_every_box_is_what_interpolation_gives(height, width, boxes, size, channels, antialias, levels):
    image, unit, outside = _image(height, width, channels), 1.0, -0.5
    if levels:
        image, unit, outside = (255 * image).round().to(torch.uint8), 255.0, 12.25
    places = torch.tensor([(left, top, left + wide, top + tall) for left, top, wide, tall in boxes]).long()
    found = crop_resize(image, places.reshape(-1, 4), size, outside=outside, antialias=antialias, impl="compiled")
    assert found.dtype == torch.float32
    # a frame of what lies outside, so wide that every box lies within
    framed = F.pad(image[None].float(), (200,) * 4, value=outside)
    for patch, (left, top, right, bottom) in zip(found, places.tolist(), strict=True):
        part = framed[..., top + 200 : bottom + 201, left + 200 : right + 201]
        if 0 in part.shape or right < 0 or bottom < 0 or left >= width or top >= height:
            assert (patch == outside).all()
        else:
            sides = (size, size) if isinstance(size, int) else size
            truth = F.interpolate(part, size=sides, mode="bilinear", antialias=antialias)[0]
            # positions up to 100 pixels, rounded in another order
            assert (patch - truth).abs().max() < (2e-6 if antialias else 2e-5) * unit


@given(
    st.lists(st.tuples(*[st.integers(-9, 30)] * 4), min_size=1, max_size=4),
    st.one_of(st.integers(1, 12), st.tuples(st.integers(1, 12), st.integers(1, 12))),
    st.booleans(),
)
def test_the_reference_says_the_same(boxes, size, antialias):
    floats, places = _image(20, 17), torch.tensor(boxes)
    for image, unit in ((floats, 1), ((255 * floats).to(torch.uint8), 255)):
        compiled, plain = (
            crop_resize(image, places, size, outside=0.25, antialias=antialias, impl=impl)
            for impl in ("compiled", "reference")
        )
        assert compiled.shape == plain.shape and compiled.dtype == plain.dtype
        assert (compiled - plain).abs().max() < 4e-6 * unit


def test_an_image_of_any_strides_is_read():
    image = _image(30, 40)
    boxes = torch.tensor([[-3, 2, 20, 25], [10, 5, 60, 55]])
    turned = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert torch.equal(crop_resize(image, boxes, 9, impl="compiled"), crop_resize(turned, boxes, 9, impl="compiled"))
    assert crop_resize(image, boxes[:0], 9, impl="compiled").shape == (0, 3, 9, 9)


def test_it_is_a_good_citizen_of_the_compiler():
    opcheck(crop_resize_op, (_image(12, 14), torch.tensor([[1, 2, 8, 9], [-4, 3, 5, 20]]), 6, 7, 0.0, True))


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match=r"expected an image \(c, h, w\), int64 boxes \(n, 4\) and sides"):
        crop_resize(_image(5, 5), torch.zeros(2, 4), 3)
    with pytest.raises(ImplUnavailable, match="it sums float32 or 8-bit levels"):
        crop_resize(_image(5, 5).double(), torch.zeros(2, 4, dtype=torch.int64), 3, impl="compiled")
    image = _image(9, 9).requires_grad_()
    boxes = torch.tensor([[0, 0, 8, 8]] * 20)
    (gradient,) = torch.autograd.grad(crop_resize(image, boxes, 3).sum(), image)
    assert abs(float(gradient.sum()) - 20 * 3 * 9) < 1e-3

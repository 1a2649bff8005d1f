"""Parts of a face: where they lie, and that they are only cut out."""

import pytest
import torch
from torch.nn import functional as F

from codeprior.losses import FACE_PARTS, Part, crop_parts


def _images(height=40, width=40):
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_a_part_of_whole_pixels_is_a_slice():
    images = _images()
    # 10 pixels around (15, 20) and around (25, 10)
    found = crop_parts(images, [Part("a", 15 / 40, 20 / 40, 10 / 40), Part("b", 25 / 40, 10 / 40, 10 / 40)], size=10)
    torch.testing.assert_close(found[:, 0], images[..., 15:25, 10:20])
    torch.testing.assert_close(found[:, 1], images[..., 5:15, 20:30])


def test_another_size_is_what_resizing_gives():
    images = _images()
    found = crop_parts(images, [Part("a", 0.5, 0.5, 0.25)], size=20)[:, 0]
    # away from the border, where resizing of a slice repeats its outermost pixels
    expected = F.interpolate(images[..., 15:25, 15:25], size=20, mode="bilinear", align_corners=False)
    torch.testing.assert_close(found[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1])


def test_parts_of_a_picture_that_is_not_square_are_squares():
    images = _images(40, 80)
    found = crop_parts(images, [Part("a", 0.25, 0.5, 0.25)], size=10)[:, 0]
    torch.testing.assert_close(found, images[..., 15:25, 15:25])


def test_beyond_the_border_the_outermost_pixels_go_on():
    images = _images()
    found = crop_parts(images, [Part("a", 0.0, 0.5, 0.25)], size=10)[:, 0]
    torch.testing.assert_close(found[..., :5], images[..., 15:25, :1].expand(-1, -1, -1, 5))
    torch.testing.assert_close(found[..., 5:], images[..., 15:25, :5])


def test_the_parts_of_a_face_do_not_overlap_and_mirror_each_other():
    left, right, mouth = FACE_PARTS
    assert left.x + left.side / 2 < right.x - right.side / 2
    assert left.y + left.side / 2 < mouth.y - mouth.side / 2
    assert left.x + right.x == pytest.approx(1, abs=1 / 512)
    assert mouth.x == pytest.approx(0.5, abs=2 / 512)


def test_gradients_reach_the_parts_and_nothing_else():
    images = _images().requires_grad_()
    crop_parts(images, [Part("a", 0.5, 0.5, 0.25)], size=10).sum().backward()
    inside = torch.zeros(40, 40, dtype=torch.bool)
    inside[15:25, 15:25] = True
    assert images.grad is not None
    torch.testing.assert_close(images.grad[..., inside], torch.ones_like(images.grad[..., inside]))
    assert not images.grad[..., ~inside].any()


def test_wrong_parts_and_images_are_refused():
    with pytest.raises(ValueError, match=r"Part: 'nose' must have a centre in \[0, 1\] and a side in \(0, 1\]"):
        Part("nose", 1.5, 0.5, 0.1)
    for parts, size in (([], 4), (FACE_PARTS, 0)):
        with pytest.raises(ValueError, match=r"crop_parts: expected at least one part and a positive size, got "):
            crop_parts(_images(), parts, size=size)

"""Faces out and back: an unrestored crop changes nothing visible, nothing outside it is touched."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codeprior.photos.faces import (
    Crop,
    align,
    choose,
    from_landmarks,
    invert,
    paste,
    similarity,
    soft_mask,
    template,
    transform,
)


def _smooth(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    picture = np.stack([128 + 90 * np.sin(x / 23), 128 + 90 * np.cos(y / 29), 128 + 60 * np.sin((x + y) / 31)], -1)
    return picture.round().astype(np.uint8)


@settings(max_examples=40, deadline=None)
@given(st.floats(-3.1, 3.1), st.floats(0.1, 8), st.floats(-300, 300), st.floats(-300, 300))
def test_a_similarity_is_recovered_from_its_points(angle, scale, x, y):
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    truth = np.array([[cosine, -sine, x], [sine, cosine, y]])
    points = template(512)
    found = similarity(points, transform(points, truth))
    assert np.allclose(found, truth, atol=1e-7)
    assert np.allclose(transform(transform(points, found), invert(found)), points, atol=1e-7)


@settings(max_examples=8, deadline=None)
@given(st.floats(-0.6, 0.6), st.floats(0.7, 1.4), st.sampled_from([128, 256]))
def test_an_unrestored_crop_pasted_back_changes_little(angle, scale, size):
    photo = _smooth(400, 380)
    scale = scale * 200 / 512
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    points = (template(512) - 255.5) @ np.array([[cosine, sine], [-sine, cosine]]) + (190, 200)
    crop = align(photo, points, size=size)
    pasted = paste(photo, [crop])
    # the finest wave has a period of 144 pixels; two resamplings of at most 3 pixels a sample lose 3 levels, rounding 1
    assert np.abs(pasted.astype(int) - photo).max() <= 4
    outside = np.ones(photo.shape[:2], bool)
    corners = transform(np.array([(0, 0), (size, 0), (0, size), (size, size)]), crop.matrix)
    (left, top), (right, bottom) = np.floor(corners.min(0)).astype(int), np.ceil(corners.max(0)).astype(int)
    outside[max(top - 1, 0) : bottom + 2, max(left - 1, 0) : right + 2] = False
    assert np.array_equal(pasted[outside], photo[outside])


def test_the_identity_crop_is_the_photograph():
    photo = _smooth(512, 512)
    crop = align(photo, template(512), size=512)
    assert np.abs(crop.image.permute(1, 2, 0).numpy() * 255 - photo).max() < 0.1
    assert np.allclose(crop.matrix, [[1, 0, 0], [0, 1, 0]], atol=1e-9)


def test_a_white_face_leaves_no_edge():
    photo = np.zeros((256, 256, 3), np.uint8)
    matrix = np.array([[1.0, 0, 64], [0, 1, 64]])
    pasted = paste(photo, [Crop(torch.ones(3, 128, 128), matrix)])[..., 0].astype(int)
    assert pasted[128, 128] == 255
    assert np.abs(np.diff(pasted, axis=1)).max() <= 27  # smoothstep over 18 pixels rises by 1.5 / 18 of 255 at most
    assert pasted[64:192, 64:67].max() == 0


def test_the_mask_is_symmetric_and_ends_before_the_edge():
    mask = soft_mask(64)
    assert torch.equal(mask, mask.flip(0))
    assert torch.equal(mask, mask.T)
    assert mask[0].max() == 0
    assert mask[32, 32] == 1
    with pytest.raises(ValueError, match="must leave a middle"):
        soft_mask(64, margin=0.4, feather=0.2)


def test_faces_are_chosen_by_size_place_and_number():
    shift = np.array([100.0, 0])
    points = template(64)
    faces = from_landmarks([(points + 2 * shift).tolist(), points.tolist(), (points * 1.5 + shift).tolist()])
    assert choose(faces, "all", width=300, height=80) == [0, 1, 2]
    assert choose(faces, "largest", width=300, height=80) == [2]
    assert choose(faces, "0", width=300, height=80) == [1]
    with pytest.raises(ValueError, match="there is no face 3 among 3"):
        choose(faces, "3", width=300, height=80)
    with pytest.raises(ValueError, match="expected five points"):
        from_landmarks([[[1, 2]]])

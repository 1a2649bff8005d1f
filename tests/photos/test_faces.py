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
    with pytest.raises(ValueError, match="^there is no face 3: 3 can be used, and they are counted from 0"):
        choose(faces, "3", width=300, height=80)
    with pytest.raises(ValueError, match="expected five points"):
        from_landmarks([[[1, 2]]])


def _two_faces(distance: float, ratio: float, angle: float = 0.0):
    """Two faces side by side, 100 pixels a crop and `ratio` of that, and where their face boxes lie."""
    cosine, sine = np.cos(angle) * 100 / 512, np.sin(angle) * 100 / 512
    first = np.array([[cosine, -sine, 60.0], [sine, cosine, 70.0]])
    second = np.array([[ratio * 100 / 512, 0, 60.0 + distance], [0, ratio * 100 / 512, 90.0]])
    return first, second


@settings(max_examples=15, deadline=None)
@given(st.floats(62, 120), st.floats(0.7, 1.2), st.floats(-0.3, 0.3))
def test_a_neighbours_crop_leaves_the_other_face_alone(distance, ratio, angle):
    photo = np.full((260, 320, 3), 120, np.uint8)
    matrices = _two_faces(distance, ratio, angle)
    bright, dark = torch.full((3, 512, 512), 0.9), torch.full((3, 512, 512), 0.1)
    both = paste(photo, [Crop(bright, matrices[0]), Crop(dark, matrices[1])]).astype(int)
    again = paste(photo, [Crop(dark, matrices[1]), Crop(bright, matrices[0])]).astype(int)
    assert np.abs(both - again).max() <= 1  # the order does not matter, but for rounding
    alone = [
        paste(photo, [Crop(image, matrix)]).astype(int) for image, matrix in zip((bright, dark), matrices, strict=True)
    ]
    centres = [transform(np.array([[255.5, 255.5]]), matrix)[0] for matrix in matrices]
    sides = [100, 100 * ratio]
    y, x = np.mgrid[:260, :320]
    away = [np.hypot(x - centre[0], y - centre[1]) / (side / 2) for centre, side in zip(centres, sides, strict=True)]
    for mine, theirs, image in ((0, 1, alone[0]), (1, 0, alone[1])):
        own = away[mine] + 0.06 < away[theirs]  # nearer by more than half the fade
        assert np.abs(both - image)[own].max() <= 1


def test_no_background_shows_between_two_faces_that_touch():
    photo = np.zeros((260, 320, 3), np.uint8)
    white = torch.ones(3, 512, 512)
    pasted = paste(photo, [Crop(white, matrix) for matrix in _two_faces(50, 1.0)])
    assert pasted[110:150, 80:190].min() >= 254

"""The part of a photograph that a face fills is the square that its aligned crop covers, upright and whole pixels."""

import numpy as np
import pytest

from codeprior.photos.faces import region, template


def test_an_aligned_face_fills_its_picture():
    assert region(template(256), height=256, width=256) == (slice(0, 256), slice(0, 256))


def test_a_smaller_face_elsewhere_has_the_square_of_its_size():
    points = template(100) + (30, 250)
    assert region(points, height=400, width=200) == (slice(250, 350), slice(30, 130))


def test_a_turned_face_has_a_square_of_the_same_side():
    angle = np.radians(30)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = (template(200) - 99.5) @ turn.T + (300, 400)
    rows, columns = region(points, height=900, width=900)
    assert rows.stop - rows.start == pytest.approx(200, abs=1) and columns.stop - columns.start == pytest.approx(
        200, abs=1
    )
    assert (rows.start + rows.stop) / 2 == pytest.approx(400.5, abs=1)


def test_a_face_at_the_edge_is_cut_off_there_and_one_outside_is_empty():
    points = template(100) + (-50, 80)
    assert region(points, height=150, width=200) == (slice(80, 150), slice(0, 50))
    rows, columns = region(template(100) + (500, 0), height=150, width=200)
    assert columns.start == columns.stop and rows == slice(0, 100)


def test_points_that_are_no_places_are_refused():
    with pytest.raises(ValueError, match="not finite or all the same"):
        region(np.full((5, 2), np.nan), height=10, width=10)

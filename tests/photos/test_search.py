"""Small faces in large photographs and turned faces are found; tiles and turns lose and double none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codeprior.photos.faces import Face, detector, search, template
from codeprior.photos.faces.search import _starts
from codeprior.photos.restoration import Choices, prepare


@pytest.fixture(scope="module")
def mtcnn():
    return detector("mtcnn")


class _Marks:
    """Finds squares of one level that stand upright, as wide as it can see after its own reduction.

    A face is a grey square (200) with a brighter left upper corner (255); turned ones are not seen.
    """

    longest, smallest = 100, 10

    def __init__(self):
        self.asked = 0

    def __call__(self, photo):
        self.asked += 1
        found = []
        for row, column in np.argwhere(photo[..., 0] == 255):
            width = int((photo[row, column:, 0] >= 200).argmin() or photo.shape[1] - column)
            height = int((photo[row:, column, 0] >= 200).argmin() or photo.shape[0] - row)
            if width * min(1, self.longest / max(photo.shape[:2])) >= self.smallest:
                box = np.array([column, row, column + width - 1, row + height - 1], np.float64)
                points = (template(512) / 512) * (width, height) + box[:2]
                found.append(Face(box, points, 0.95 if width != height else 0.99))
        return found


def _picture(shape, places):
    picture = np.zeros((*shape, 3), np.uint8)
    for row, column, side in places:
        picture[row : row + side, column : column + side] = 200
        picture[row, column] = 255
    return picture


@given(st.integers(1, 5000), st.integers(50, 900), st.data())
def test_tiles_cover_everything_and_anything_as_wide_as_the_overlap_is_whole_in_one(length, side, data):
    overlap = data.draw(st.integers(0, side // 2))
    starts = _starts(length, side, overlap)
    assert starts[0] == 0 and starts[-1] + side >= length and all(start >= 0 for start in starts)
    if length > side:
        assert starts[-1] + side == length
    place = data.draw(st.integers(0, max(0, length - overlap)))
    stop = min(place + overlap, length)
    assert any(start <= place and stop <= min(start + side, length) for start in starts)


@given(st.integers(0, 550), st.integers(0, 850), st.integers(12, 49))
def test_every_face_down_to_the_smallest_is_found_once_wherever_it_lies(row, column, side):
    marks = _Marks()
    picture = _picture((600, 900), [(row, column, side)])
    # eyes 5 apart: a face 11 wide, reduced to the 10 that the detector sees; one more for rounding
    (face,) = search(marks, picture, smallest=5.0)
    assert np.array_equal(face.box, [column, row, column + side - 1, row + side - 1])
    assert marks.asked > 1


def test_a_photograph_that_is_not_reduced_much_is_searched_once():
    marks = _Marks()
    assert len(search(marks, _picture((90, 150), [(10, 10, 30)]), smallest=16.0)) == 1
    assert marks.asked == 1


def test_a_detector_that_does_not_tell_its_limits_is_asked_once():
    asked = []

    def alone(photo):
        asked.append(photo.shape)
        return [Face(np.array([0.0, 0, 9, 9]), template(512) / 60, 1.0)]

    assert len(search(alone, np.zeros((3000, 4000, 3), np.uint8))) == 1
    assert asked == [(3000, 4000, 3)]


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_points_of_turned_faces_come_back_to_the_photograph(turns):
    upright = _picture((60, 90), [(5, 20, 21)])
    (truth,) = _Marks()(upright)
    (face,) = search(_Marks(), np.ascontiguousarray(np.rot90(upright, turns)))
    marked = np.zeros((60, 90), bool)
    for x, y in np.round(truth.points).astype(int):
        marked[y, x] = True
    for x, y in np.round(face.points).astype(int):
        assert np.rot90(marked, turns)[y, x]
    left, top, right, bottom = face.box.astype(int)
    assert (np.rot90(upright, turns)[top : bottom + 1, left : right + 1, 0] >= 200).all()
    assert (right - left, bottom - top) == (20, 20)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_turned_portrait_is_found_and_its_crop_stands_upright(mtcnn, turns):
    astronaut = pytest.importorskip("skimage.data").astronaut()
    straight = prepare(astronaut, mtcnn, size=64, choices=Choices()).crops[0].image
    turned = np.ascontiguousarray(np.rot90(astronaut, turns))
    crop = prepare(turned, mtcnn, size=64, choices=Choices()).crops[0].image
    # found in the very same pixels, turned back; only the order of sums differs
    assert (crop - straight).abs().mean() < 0.01


def test_a_small_face_in_a_large_photograph_is_found_beside_a_large_one(mtcnn):
    astronaut = pytest.importorskip("skimage.data").astronaut()
    photo = np.full((640, 6000, 3), 90, np.uint8)
    photo[100:612, 100:612] = astronaut  # its face is 85 wide
    photo[300:556, 5600:5856] = astronaut[::2, ::2]  # 43 wide, 9 when reduced to 1280
    whole = mtcnn(photo)
    assert [round(face.points[2, 0] / 100) for face in whole] == [3]
    found = search(mtcnn, photo)
    assert sorted(round(face.points[2, 0] / 100) for face in found) == [3, 57]
    # who asks for large faces only is not made to wait for tiles
    assert len(search(mtcnn, photo, smallest=60.0)) == 1

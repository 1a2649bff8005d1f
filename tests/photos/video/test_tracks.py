"""Faces are followed as their pixels move, through gaps, and not through cuts."""

import numpy as np
import pytest

from codeprior.photos.faces import Face, detector
from codeprior.photos.faces.geometry import transform
from codeprior.photos.video import Tracker
from codeprior.photos.video.motion import look, moved
from tests.photos.video.making import Middle, moving


def test_motion_is_found_to_a_small_part_of_a_pixel_through_noise():
    frames, motion = moving(4)
    points = detector()(frames[0])[0].points
    known = look(frames[0], points)
    for frame, matrix in zip(frames[1:], motion[1:], strict=True):
        found = moved(known, frame, points, points)
        assert found is not None and np.abs(found - transform(points, matrix)).max() < 0.35  # pixels; 4.4 at most moved
    assert moved(known, np.full_like(frames[0], 90), points, points) is None


class _Trembling(Middle):
    """A detector whose points are off by a pixel and a half each time, and that finds nothing at some times."""

    def __init__(self, frames, motion, blind=()):
        super().__init__()
        self.first = detector()(frames[0])[0]
        self.motion, self.blind, self.rng = motion, blind, np.random.default_rng(1)
        self.at = 0

    def __call__(self, photo):
        if self.at in self.blind:
            return []
        points = transform(self.first.points, self.motion[self.at]) + self.rng.normal(0, 1.5, (5, 2))
        if photo.shape[0] != photo.shape[1]:
            return []
        return [Face(self.first.box, points, 0.99)] if max(photo.shape) == 240 else []


def test_points_of_a_trembling_detector_are_held_and_gaps_are_bridged():
    frames, motion = moving(8)
    find = _Trembling(frames, motion, blind=(3, 4))
    tracker = Tracker(find, every=1)
    off = []
    for at, frame in enumerate(frames):
        find.at = at
        (track,) = tracker(frame)
        assert track.number == 0 and track.missing == (at - 2 if at in (3, 4) else 0)
        off.append(track.points - transform(find.first.points, motion[at]))
    steps = np.abs(np.diff(np.stack(off), axis=0)).mean()
    assert steps < 0.25  # pixels from frame to frame; 1.7 by the detector


def test_a_face_that_stays_away_is_let_go_and_one_that_comes_later_is_another():
    frames, motion = moving(10, still=True)
    find = _Trembling(frames, motion, blind=tuple(range(1, 8)))
    tracker, seen = Tracker(find, every=1), []
    for at, frame in enumerate(frames):
        find.at = at
        seen.append([track.number for track in tracker(frame)])
    assert seen == [[0]] * 6 + [[]] * 2 + [[1]] * 2


def test_a_cut_resets_and_a_slow_change_of_light_does_not():
    frames, _ = moving(6, still=True)
    tracker = Tracker(Middle(), every=1)
    for at, frame in enumerate(frames):
        tracker((frame * (1 - 0.1 * at)).astype(np.uint8))
    assert tracker.cuts == 0 and [track.number for track in tracker.tracks] == [0]
    tracker(255 - frames[0])
    assert tracker.cuts == 1 and [track.number for track in tracker.tracks] == [1]


def test_a_state_goes_on_as_if_nothing_had_happened():
    frames, _ = moving(6)
    find = detector()
    tracker, other = Tracker(find), Tracker(find)
    for frame in frames[:3]:
        tracker(frame)
    other.restore(*tracker.state())
    for frame in frames[3:]:
        (ours,), (theirs,) = other(frame), tracker(frame)
        assert np.array_equal(ours.points, theirs.points) and ours.number == theirs.number


@pytest.mark.parametrize("lost", [{"score": 0.999}, {"smallest": 90.0}])
def test_new_faces_must_be_sure_and_large_enough(lost):
    frames, _ = moving(1)
    assert Tracker(Middle(), **lost)(frames[0]) == []

"""Faces followed from frame to frame: looked for where they were, their points smoothed, lost and found again.

The whole frame is searched when a scene begins, when a face is lost, and from time to time for new ones; between, only
the place around each face. Its points move as its pixels do (`motion`) and are drawn slowly to the detector's, which
jitter. Where the pixels do not show the motion, the points are smoothed more the less they move (after Casiez et al.
2012, "1€ filter").
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from codeprior.photos.faces import Detector, Face, search
from codeprior.photos.video.motion import look, moved

_SLOWEST, _SUDDEN = 0.2, 0.12  # share of a new position; movement, distances of the eyes, that is taken whole
_DRAWN, _FAR = 0.05, 0.3  # share drawn to the detector's points; distances of the eyes at which those are taken
_AROUND = 0.6  # of its box, on each side, that is searched for a face
_KNOWN = 0.6  # score that a face needs where one was before
_PATIENCE = 5  # frames that a face may be missing
_SAME = 0.3  # overlap of two boxes, of their union, that makes them one face
_THUMB = 48  # pixels a side of the picture by which cuts are seen
_CUT, _TIMES = 25.0, 3.0  # 8-bit levels of change that make a cut, and how many times the usual change


@dataclass
class Track:
    """A face through time.

    Attributes:
        number: Its own for the whole video.
        points: Smoothed, `5 2`, pixels.
        box: As last found, pixels.
        missing: Frames since it was last found.
        known: What it looked like in the last frame, for `motion.moved`.
    """

    number: int
    points: Float[np.ndarray, "5 2"]
    box: Float[np.ndarray, "4"]
    missing: int = 0
    known: Float[np.ndarray, "s s"] | None = None

    @property
    def face(self) -> Face:
        """The face as a detector would give it."""
        return Face(self.box, self.points, 1.0)


@dataclass
class Tracker:
    """Finds the faces of one frame after the other.

    Args:
        detector: Finds faces in one picture.
        smallest: Least distance between the eyes, pixels.
        score: Least score of a new face.
        every: Frames between two searches of the whole picture.

    Attributes:
        tracks: The faces of the last frame.
        cuts: Scenes that have begun after the first.
    """

    detector: Detector
    smallest: float = 16.0
    score: float = 0.9
    every: int = 12
    tracks: list[Track] = field(default_factory=list)
    cuts: int = 0
    _next: int = 0
    _since: int = 0
    _change: float = 0.0
    _thumb: np.ndarray | None = None

    def __call__(self, pixels: UInt8[np.ndarray, "H W 3"]) -> list[Track]:
        """Gives the faces of the next frame; those of an earlier scene are gone.

        Args:
            pixels: RGB, 8-bit levels, as large as the frames before.
        """
        if self._is_cut(pixels):
            self.cuts, self.tracks, self._since = self.cuts + 1, [], 0
        found = {track.number: self._near(pixels, track) for track in self.tracks} if self._since else {}
        if self._since == 0 or any(face is None for face in found.values()):
            found = self._matched(search(self.detector, pixels, smallest=self.smallest, score=self.score), found)
        self._since = (self._since + 1) % self.every
        for track in self.tracks:
            _follow(track, found.get(track.number), pixels)
        self.tracks = [track for track in self.tracks if track.missing <= _PATIENCE]
        return list(self.tracks)

    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Gives all that the next frame depends on: plain values, and arrays by name."""
        plain = {
            "cuts": self.cuts, "next": self._next, "since": self._since, "change": self._change,
            "tracks": [[track.number, track.missing] for track in self.tracks],
        }  # fmt: skip
        arrays = {} if self._thumb is None else {"thumb": self._thumb}
        for track in self.tracks:
            arrays |= {f"points.{track.number}": track.points, f"box.{track.number}": track.box}
            arrays |= {} if track.known is None else {f"look.{track.number}": track.known}
        return plain, arrays

    def restore(self, plain: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Goes on from a state.

        Args:
            plain: What `state` gave first.
            arrays: What it gave second.
        """
        self.cuts, self._next, self._since = plain["cuts"], plain["next"], plain["since"]
        self._change, self._thumb = plain["change"], arrays.get("thumb")
        self.tracks = [
            Track(number, arrays[f"points.{number}"], arrays[f"box.{number}"], missing, arrays.get(f"look.{number}"))
            for number, missing in plain["tracks"]
        ]

    def _is_cut(self, pixels: np.ndarray) -> bool:
        rows, columns = (np.linspace(0, side - 1, _THUMB).astype(int) for side in pixels.shape[:2])
        thumb = pixels[rows][:, columns].astype(np.float32)
        before, self._thumb = self._thumb, thumb
        if before is None:
            return False
        change, usual = float(np.abs(thumb - before).mean()), self._change
        cut = change > _CUT and change > _TIMES * usual
        self._change = 0.0 if cut else usual + 0.2 * (change - usual)
        return cut

    def _near(self, pixels: np.ndarray, track: Track) -> Face | None:
        left, top, right, bottom = track.box
        reach = _AROUND * max(right - left, bottom - top)
        rows = slice(max(0, int(top - reach)), max(0, int(bottom + reach) + 1))
        columns = slice(max(0, int(left - reach)), max(0, int(right + reach) + 1))
        part = pixels[rows, columns]
        if min(part.shape[:2]) < 8:
            return None
        at_least: Callable | None = getattr(self.detector, "at_least", None)
        detector = at_least(0.7 * min(right - left, bottom - top)) if at_least else self.detector
        corner = np.array([columns.start, rows.start], np.float64)
        faces = [
            Face(face.box + np.tile(corner, 2), face.points + corner, face.score)
            for face in detector(np.ascontiguousarray(part))
            if face.score >= _KNOWN
        ]
        best = max(faces, key=lambda face: _overlap(face.box, track.box), default=None)
        return best if best is not None and _overlap(best.box, track.box) >= _SAME else None

    def _matched(self, faces: list[Face], found: Mapping[int, Face | None]) -> dict[int, Face | None]:
        """Gives each track its face of the whole frame, and every sure face that has none a track of its own."""
        result, free = dict(found), list(faces)
        pairs = sorted(
            (
                (_overlap(face.box, track.box), track.number, at)
                for track in self.tracks
                for at, face in enumerate(free)
            ),
            reverse=True,
        )
        used: set[int] = set()
        taken: set[int] = set()
        for overlap, number, at in pairs:
            if overlap >= _SAME and number not in taken and at not in used:
                taken.add(number)
                used.add(at)
                if free[at].score >= _KNOWN and result.get(number) is None:
                    result[number] = free[at]
        for at, face in enumerate(free):
            eyes = float(np.linalg.norm(face.points[1] - face.points[0]))
            if at not in used and face.score >= self.score and eyes >= self.smallest:
                self.tracks.append(Track(self._next, face.points.copy(), face.box.copy()))
                result[self._next] = face
                self._next += 1
        return result


def _follow(track: Track, face: Face | None, pixels: UInt8[np.ndarray, "H W 3"]) -> None:
    """Moves a track to where its face is in the next frame."""
    start = track.points if face is None else track.points + (face.points - track.points).mean(0)
    now = None if track.known is None else moved(track.known, pixels, track.points, start)
    if face is None:
        track.missing += 1
        track.points = track.points if now is None else now
    else:
        share, eyes = _DRAWN, max(float(np.linalg.norm(face.points[1] - face.points[0])), 1e-6)
        if now is None or float(np.abs(face.points - now).max()) > _FAR * eyes:
            now = track.points
            off = face.points - now
            change = float(np.linalg.norm(off.mean(0))) + float(np.abs(off - off.mean(0)).max()) / 2
            share = 1.0 if track.missing else min(1.0, _SLOWEST + (1 - _SLOWEST) * change / eyes / _SUDDEN)
        track.points = now + share * (face.points - now)
        track.box, track.missing = face.box, 0
    track.known = look(pixels, track.points)


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    shared = float(np.prod(np.clip(high - low, 0, None)))
    both = float(np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2])) - shared
    return shared / both if both > 0 else 0.0

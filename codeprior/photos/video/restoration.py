"""A video restored frame by frame with a memory, segment by segment, so that a run that was killed can go on.

One thread reads and follows faces ahead of the network, a few frames at most. At the end of a segment all that the next
frame depends on is written beside it: a run that goes on gives the frames that an unbroken one would have given.
"""

import copy
import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from queue import Empty, Full, Queue
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from codeprior import files
from codeprior.photos.faces import Detector
from codeprior.photos.restoration import Choices
from codeprior.photos.video.frames import FrameRestorer
from codeprior.photos.video.reading import Frame, Video, VideoError, one_error
from codeprior.photos.video.steady import Steadiness
from codeprior.photos.video.tracks import Track, Tracker
from codeprior.photos.video.writing import WRITTEN, Segment, assemble

_AHEAD = 4  # frames that are read and searched before the network needs them
_SEGMENT = 240  # frames
_OURS = re.compile(r"\d{6}\.(nut|safetensors)|settings\.json")
_LONGEST = 2**20  # bytes of the settings of an earlier run


class VideoReport(NamedTuple):
    """What became of a video.

    Attributes:
        frames: How many there are.
        restored: Frames in which a face was restored.
        faces: Faces that were followed.
        cuts: Scenes that begin after the first.
        before: Frames that an earlier run had done.
        seconds: That this run took.
        notes: What was left out or changed, a sentence each.
    """

    frames: int
    restored: int
    faces: int
    cuts: int
    before: int
    seconds: float
    notes: tuple[str, ...]


def restore_video(
    source: str | Path,
    target: str | Path,
    restorer: Any,
    *,
    detector: Detector,
    choices: Choices | None = None,
    steadiness: Steadiness | None = None,
    mask: Callable | None = None,
    overwrite: bool = False,
    resume: bool = False,
    described: str = "",
    progress: Callable[[int, int], None] | None = None,
    segment: int = _SEGMENT,
) -> VideoReport:
    """Restores the faces of a video; sound and the time of every frame are those of the source.

    Args:
        source: A video that FFmpeg decodes.
        target: The result: `.mp4`, `.m4v`, `.mov` or `.mkv`, H.264.
        restorer: Takes aligned faces.
        detector: Finds faces.
        choices: Which faces and how strongly.
        steadiness: How strongly faces are held steady.
        mask: What keeps paste-back to the face, such as a face parser.
        overwrite: Replace the target, and begin anew where an earlier run was broken off.
        resume: Go on with an earlier run that was broken off.
        described: What else the result depends on, such as the weights; a run goes on only with the same.
        progress: Called after every frame with how many are done and about how many there are, 0 where that is not
            known.
        segment: Frames of a part that a killed run leaves whole.

    Returns:
        What became of it.

    Raises:
        VideoError: The source is no usable video, the target exists, cannot be written or is the source, or an earlier
            run was broken off and neither `resume` nor `overwrite` is set, or its settings were others.
        ImportError: PyAV is not installed.
    """
    started, source, target = time.monotonic(), Path(source), Path(target)
    choices, steadiness = choices or Choices(), steadiness or Steadiness()
    _check_target(source, target, overwrite)
    frames = FrameRestorer(restorer, detector, choices=choices, steadiness=steadiness, mask=mask)
    with Video(source) as video:
        settings = _settings(source, choices, steadiness, described, segment)
        parts = _Parts(target, settings, overwrite=overwrite, resume=resume)
        done, state = parts.known()
        if state is not None:
            _go_on(frames, *state, target)
        counts = {"frames": done * segment, "restored": 0} | ({} if state is None else state[0]["counts"])
        before = counts["frames"]
        with _ahead(video, frames.tracker, skip=before) as coming:
            number, ended = done, False
            while not ended:
                ended = _one_segment(parts, number, coming, frames, video, counts, segment, progress)
                number += 1
        notes = list(video.notes)
    with Video(source) as video:
        notes += assemble(video, parts.segments(), target, overwrite=overwrite)
    parts.remove()
    return VideoReport(
        counts["frames"], counts["restored"], frames.tracker._next, frames.tracker.cuts, before,
        round(time.monotonic() - started, 3), tuple(dict.fromkeys(notes)),
    )  # fmt: skip


def _go_on(frames: FrameRestorer, plain: dict[str, Any], arrays: dict[str, np.ndarray], target: Path) -> None:
    """Takes up what an earlier run left, which anybody may have written."""
    try:
        counts = plain["counts"]
        if counts.keys() != {"frames", "restored"} or not all(type(count) is int for count in counts.values()):
            raise ValueError("its counts are none")
        frames.tracker.restore(plain["tracker"], arrays)
        frames.remember(arrays)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise VideoError(
            target, f"what an earlier run left is damaged ({error!r:.100}); --overwrite begins anew"
        ) from error


class _Parts:
    """The folder beside the target in which finished segments wait, each with the state after it."""

    def __init__(self, target: Path, settings: str, *, overwrite: bool, resume: bool):
        self.folder = target.with_name(f".{target.name}.codeprior-segments")
        self._settings = self.folder / "settings.json"
        if self.folder.is_symlink():
            raise VideoError(target, f"{self.folder.name} beside it is a link, and is not written through; remove it")
        exists = self.folder.is_dir() and any(self.folder.iterdir())
        if exists and not resume and not overwrite:
            raise VideoError(target, "an earlier run was broken off; --resume goes on with it, --overwrite begins anew")
        if exists and resume and self._earlier_settings() != settings:
            raise VideoError(target, "an earlier run was broken off that had other settings; --overwrite begins anew")
        if exists and not resume:
            self.remove()
        try:
            files.make_folder(self.folder)
            files.sweep(self.folder)
            if not self._settings.exists():
                files.write(self._settings, settings)
        except OSError as error:
            raise VideoError(target, f"cannot be written: {error.strerror or error}") from error

    def segments(self) -> list[Path]:
        """Gives those that are there without a gap, in their order."""
        found = []
        while (path := self.path(len(found))).exists():
            found.append(path)
        return found

    def path(self, number: int) -> Path:
        return self.folder / f"{number:06}.nut"

    def state(self, number: int) -> Path:
        return self.folder / f"{number:06}.safetensors"

    def known(self) -> tuple[int, tuple[dict[str, Any], dict[str, np.ndarray]] | None]:
        """Gives how many segments are done, and the state after the last."""
        done = len(self.segments())
        while done:
            try:
                with files.opened(self.state(done - 1)) as file:
                    content = file.read()
                arrays = load_arrays(content)
                header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
                return done, (json.loads(header["__metadata__"]["plain"]), arrays)
            except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError):
                done -= 1
                self.path(done).unlink(missing_ok=True)
        return 0, None

    def keep(self, number: int, plain: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Writes the state after a segment; it is there before the segment has its name."""
        arrays = {name: np.ascontiguousarray(part) for name, part in arrays.items()}
        content = save_arrays(arrays, metadata={"plain": json.dumps(plain)})
        files.write(self.state(number), content, overwrite=True)
        if number > 1:
            self.state(number - 2).unlink(missing_ok=True)

    def remove(self) -> None:
        """Removes the folder and what we wrote into it."""
        files.sweep(self.folder)
        names = [path.name for path in self.folder.iterdir() if _OURS.fullmatch(path.name)]
        files.remove_folder(self.folder, names)

    def _earlier_settings(self) -> str | None:
        try:
            with files.opened(self._settings) as file:
                return file.read(_LONGEST).decode("utf-8")
        except (OSError, ValueError):
            return None


def _one_segment(
    parts: _Parts,
    number: int,
    coming: Iterator[tuple[Frame, list[Track], Callable[[], Any]]],
    frames: FrameRestorer,
    video: Video,
    counts: dict[str, int],
    length: int,
    progress: Callable[[int, int], None] | None,
) -> bool:
    """Restores and writes one segment; gives whether it was the last."""
    first = next(coming, None)
    if first is None:
        return True
    with files.writing(parts.path(number), overwrite=True) as file:
        with one_error(video._av, video.path, "is not what can be written again"):
            segment = Segment(file, video.facts)
        try:
            item, count = first, 0
            while item is not None:
                frame, tracks, state = item
                pixels, faces = frames(frame.pixels, tracks)
                with one_error(video._av, video.path, "is not what can be written again"):
                    segment.add(pixels, frame.time, frame.source)
                count += 1
                counts["frames"] += 1
                counts["restored"] += faces > 0
                if progress:
                    progress(counts["frames"], video.facts.frames)
                if count == length:
                    break
                item = next(coming, None)
        finally:
            with one_error(video._av, video.path, "is not what can be written again"):
                segment.close()
        plain, arrays = state()
        parts.keep(number, {"tracker": plain, "counts": counts}, arrays | frames.memory())
    return item is None


@contextmanager
def _ahead(video: Video, tracker: Tracker, *, skip: int) -> Iterator[Iterator[tuple[Frame, list[Track], Any]]]:
    """Gives frames with their faces, read and followed by another thread."""
    queue: Queue[Any] = Queue(_AHEAD)
    stop = threading.Event()

    def put(item: Any) -> None:
        while not stop.is_set():
            try:
                queue.put(item, timeout=0.2)
            except Full:
                continue
            break

    def read() -> None:
        try:
            for number, frame in enumerate(video.frames()):
                if stop.is_set():
                    return
                if number < skip:
                    continue
                tracks = [copy.copy(track) for track in tracker(frame.pixels)]
                state = tracker.state()
                put((frame, tracks, lambda state=state: state))
            put(None)
        except Exception as error:
            put(error)

    def items() -> Iterator[Any]:
        while True:
            try:
                item = queue.get(timeout=0.2)
            except Empty:
                continue
            if isinstance(item, Exception):
                raise item
            if item is None:
                return
            yield item

    reader = threading.Thread(target=read, name="codeprior-video", daemon=True)
    reader.start()
    try:
        yield items()
    finally:
        stop.set()
        reader.join()


def _check_target(source: Path, target: Path, overwrite: bool) -> None:
    if target.suffix.lower() not in WRITTEN:
        raise VideoError(target, f"videos are written as {', '.join(WRITTEN)}; give such a name")
    if os.path.realpath(source) == os.path.realpath(target):
        raise VideoError(target, "is the input, which is kept; give another name")
    if os.path.lexists(target) and not overwrite:
        raise VideoError(target, "exists already and is kept; ask for overwriting to replace it")


def _settings(source: Path, choices: Choices, steadiness: Steadiness, described: str, segment: int) -> str:
    status = source.stat()
    with files.opened(source) as file:
        head = hashlib.sha256(file.read(2**20)).hexdigest()
    facts = {
        "bytes": status.st_size, "head": head, "choices": asdict(choices), "steadiness": asdict(steadiness),
        "described": described, "segment": segment,
    }  # fmt: skip
    return json.dumps(facts, sort_keys=True)

"""Frames of a video, one at a time, upright and with their own times; or one sentence about why there are none.

Only regular files are read, through a list of containers that hold pictures themselves: playlists, which name other
files and addresses, are refused. Sizes are checked before anything is decoded.
"""

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from codeprior import files
from codeprior.extras import needed
from codeprior.photos.files import PhotoError

CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,asf,flv,ogg"
MAX_SIDE, MAX_PIXELS = 8192, 36 * 2**20
MAX_FRAMES = 2_000_000
_BAD = 100  # packets in a row that cannot be decoded


class VideoError(PhotoError):
    """A file that is no usable video, or an output that cannot be written.

    Attributes:
        path: The file.
        reason: What is the matter with it, without the path.
    """


class Facts(NamedTuple):
    """What is known of a video before it is decoded.

    Attributes:
        width: Columns of an upright frame, pixels.
        height: Rows of an upright frame, pixels.
        turns: Quarter turns against the clock that bring a stored frame upright.
        time_base: Seconds of one unit of the frames' times.
        frames: About how many there are; 0 where the file does not say.
        rate: About how many a second; None where the file does not say.
        shape: Width over height of one pixel.
    """

    width: int
    height: int
    turns: int
    time_base: Fraction
    frames: int
    rate: Fraction | None
    shape: Fraction


class Frame(NamedTuple):
    """One frame.

    Attributes:
        pixels: `H W 3`, RGB, 8-bit levels, upright.
        time: When it is shown, in units of the video's time base; larger than that of the frame before.
        source: As it was decoded; keeps what the colours mean.
    """

    pixels: UInt8[np.ndarray, "H W 3"]
    time: int
    source: Any


class Video:
    """An open video.

    Args:
        path: A regular file.

    Attributes:
        facts: What the file says of itself.
        notes: What was left out, a sentence each.

    Raises:
        VideoError: It is missing, no video, too large, or its codec is unknown here.
        ImportError: PyAV is not installed.
    """

    def __init__(self, path: Path):
        self.path, self.notes = path, list[str]()
        self._av = needed("av", who="video")
        self._stack = contextlib.ExitStack()
        try:
            self.container = self._opened()
            self.stream = self._one_stream()
            with one_error(self._av, path, "says of itself what no video has"):
                self.facts = self._facts()
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> "Video":
        """Gives the video itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes the file."""
        self._stack.close()

    def frames(self) -> Iterator[Frame]:
        """Gives every frame, in the order of their times.

        Raises:
            VideoError: No frame can be decoded, they change their size, there are too many, or the file breaks off in a
                way that leaves nothing to go on with.
        """
        count, last, bad = 0, None, 0
        for packet in self._packets():
            try:
                decoded = self.stream.decode(packet)
                bad = 0
            except self._av.FFmpegError as error:
                bad += 1
                if bad > _BAD:
                    raise VideoError(self.path, f"cannot be decoded after frame {count}: {_said(error)}") from error
                continue
            for source in decoded:
                with one_error(self._av, self.path, f"cannot be decoded after frame {count}"):
                    frame = self._frame(source, last)
                count, last = count + 1, frame.time
                if count > MAX_FRAMES:
                    raise VideoError(self.path, f"has more than the {MAX_FRAMES:,} frames accepted")
                yield frame
        if not count:
            raise VideoError(self.path, "holds no frame that can be decoded")
        if bad:
            self.notes.append("what cannot be decoded was left out")

    def _packets(self) -> Iterator[Any]:
        packets = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except self._av.FFmpegError as error:
                self.notes.append(f"the file breaks off: {_said(error)}")
                yield None  # what the decoder still holds
                return
            yield packet

    def _frame(self, source: Any, last: int | None) -> Frame:
        if (source.width, source.height) != self._stored:
            wide, tall = self._stored
            raise VideoError(self.path, f"changes its size from {wide}×{tall} to {source.width}×{source.height} pixels")
        time = source.pts
        if time is None or (last is not None and time <= last):
            # old containers hold no times, and broken ones hold some twice
            step = 1 / (self.facts.rate or Fraction(25)) / self.facts.time_base
            time = 0 if last is None else last + max(1, round(step))
        pixels = source.to_ndarray(format="rgb24")
        return Frame(np.ascontiguousarray(np.rot90(pixels, self.facts.turns)), time, source)

    def _opened(self) -> Any:
        try:
            file = self._stack.enter_context(files.opened(self.path))
        except (OSError, ValueError) as error:
            missing = "does not exist" if isinstance(error, FileNotFoundError) else None
            raise VideoError(self.path, missing or str(getattr(error, "strerror", None) or error)) from None
        options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "none"}
        try:
            container = self._av.open(file, container_options=options, **_lenient(self._av.__version__))
        except (self._av.FFmpegError, ValueError) as error:
            raise VideoError(self.path, f"is no video that is read here: {_said(error)}") from error
        self._stack.callback(container.close)
        return container

    def _one_stream(self) -> Any:
        # a picture of the cover is a stream too
        streams = [one for one in self.container.streams.video if not int(one.disposition) & 0x400]
        if not streams:
            raise VideoError(self.path, "holds no moving pictures")
        if len(streams) > 1:
            self.notes.append(f"the first of {len(streams)} video streams was taken")
        stream = streams[0]
        if stream.codec_context is None:
            raise VideoError(self.path, "is in a codec that is not known here")
        stream.thread_type = "SLICE"  # threads by frame would decode ahead, and hold those frames in memory
        return stream

    def _facts(self) -> Facts:
        stream, context = self.stream, self.stream.codec_context
        self._stored = wide, tall = context.width, context.height
        if wide < 1 or tall < 1 or context.format is None:
            raise VideoError(self.path, "does not say how large its frames are, or what they are made of")
        if max(wide, tall) > MAX_SIDE or wide * tall > MAX_PIXELS:
            raise VideoError(self.path, f"has {wide}×{tall} pixels a frame, more than the {MAX_SIDE} a side accepted")
        if stream.frames > MAX_FRAMES:
            raise VideoError(self.path, f"has {stream.frames:,} frames, more than the {MAX_FRAMES:,} accepted")
        if any(part.bits > 8 for part in context.format.components):
            self.notes.append("more than 8 bits a channel were read as 8")
        notes, turns = list(self.notes), self._turns()
        self.notes, stream = notes, self.stream
        rate = stream.average_rate or stream.guessed_rate
        count = stream.frames
        if not count and self.container.duration and rate:
            count = min(MAX_FRAMES, max(0, round(self.container.duration / 1e6 * rate)))
        shape = stream.sample_aspect_ratio or Fraction(1)
        upright = (tall, wide) if turns % 2 else (wide, tall)
        return Facts(*upright, turns, stream.time_base, count, rate, 1 / shape if turns % 2 else shape)

    def _turns(self) -> int:
        """Gives the turn that the first frame asks for, and goes back to the beginning."""
        degrees = 0
        with contextlib.suppress(self._av.FFmpegError):  # what cannot be decoded is reported when all frames are read
            degrees = next((int(frame.rotation) for frame in self.container.decode(self.stream)), 0)
        self._stack.pop_all().close()
        self.container = self._opened()
        self.stream = self._one_stream()
        return round(degrees / 90) % 4


@contextlib.contextmanager
def one_error(av: Any, path: Path, what: str) -> Iterator[None]:
    """Turns whatever FFmpeg and odd numbers of a file raise into one kind of error.

    Args:
        av: PyAV; some of its errors are of no other kind.
        path: The file.
        what: What is the matter, before the reason.

    Raises:
        VideoError: One of them was raised in the block.
    """
    try:
        yield
    except (VideoError, FileExistsError):
        raise
    except (av.FFmpegError, OSError, ValueError, TypeError, ArithmeticError) as error:
        raise VideoError(path, f"{what}: {_said(error)}") from error


def _said(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def _lenient(version: str) -> dict[str, str]:
    """Gives what lets a version of PyAV read titles in broken letters; from 19 on it takes no such word."""
    return {"metadata_errors": "replace"} if int(version.partition(".")[0]) < 19 else {}

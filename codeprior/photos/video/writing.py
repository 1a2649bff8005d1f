"""A video in segments that a killed run leaves whole, and the film that is made of them with the source's sound.

Each segment is an encoded file of its own without sound. The film takes their packets as they are, so nothing is
encoded twice, and those of the sound as they stood in the source.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import UInt8

from codeprior import files
from codeprior.extras import needed
from codeprior.photos.video.reading import Facts, Video, VideoError, one_error

WRITTEN = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}
"""Suffixes of videos that are written, in lower case, and FFmpeg's names of their containers."""
_QUALITY = "16"  # of x264: 18 is said to look like the source, and restored detail must not be lost
_SEGMENT = "nut"  # the one container that keeps any time base to the tick


class Segment:
    """Encodes the frames of one segment.

    Args:
        file: Where to.
        facts: Of the source: sizes, times and the shape of a pixel.
    """

    def __init__(self, file: BinaryIO, facts: Facts):
        self._av = needed("av", who="video")
        self._facts = facts
        self._container = self._av.open(file, "w", format=_SEGMENT)
        # without frames that look ahead, times of one segment never reach into the next
        options = {"crf": _QUALITY, "preset": "medium", "bf": "0", "forced-idr": "1"}
        self._stream = self._container.add_stream("libx264", rate=_rate(facts), options=options)
        self._stream.width, self._stream.height = facts.width, facts.height
        # a side that is odd has no half: colours are then kept for every pixel
        self._stream.pix_fmt = "yuv444p" if facts.width % 2 or facts.height % 2 else "yuv420p"
        self._stream.codec_context.time_base = self._stream.time_base = facts.time_base
        self._stream.codec_context.sample_aspect_ratio = facts.shape
        self._begun = False

    def add(self, pixels: UInt8[np.ndarray, "H W 3"], time: int, source: Any) -> None:
        """Encodes one frame.

        Args:
            pixels: RGB, 8-bit levels.
            time: When it is shown, in units of the source's time base.
            source: The frame that it came from: its colours are meant in the same way.
        """
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame = frame.reformat(format=self._stream.pix_fmt, dst_colorspace=_known_space(source.colorspace))
        frame.pts, frame.time_base = time, self._facts.time_base
        context = self._stream.codec_context
        if not self._begun:
            for name in ("colorspace", "color_primaries", "color_trc"):
                with contextlib.suppress(ValueError, TypeError):
                    setattr(context, name, getattr(source, name))
            self._begun = True
        frame.colorspace = source.colorspace
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Encodes what is left and ends the file."""
        try:
            if self._begun:
                self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()


def assemble(video: Video, segments: Sequence[Path], target: Path, *, overwrite: bool) -> list[str]:
    """Makes one film of the segments and of the sound of the source.

    Args:
        video: The source, for its sound; it is read from its beginning.
        segments: In their order.
        target: The result; its suffix chooses the container.
        overwrite: Replace what has the name.

    Returns:
        What was left out, a sentence each.

    Raises:
        VideoError: The target exists, the disk refuses, or the container has no place for the sound.
    """
    av, notes = needed("av", who="video"), []
    try:
        with (
            one_error(av, target, "cannot be written"),
            files.writing(target, overwrite=overwrite) as file,
            _closing(av.open(file, "w", format=_kind(target))) as out,
        ):
            picture = _first_stream(av, segments[0], out)
            tracks, left = {}, 0
            for stream in video.container.streams:
                if stream.type == "audio":
                    tracks[stream.index] = _copied(out, stream, target)
                elif stream.index != video.stream.index:
                    left += 1
            if left:
                notes.append(f"{left} streams that are neither picture nor sound were left out")
            sound = _sound(video, tracks, av)
            waiting = next(sound, None)
            for packet in _packets(av, segments):
                while waiting is not None and waiting[1].dts * waiting[1].time_base <= packet.dts * packet.time_base:
                    out.mux(_into(*waiting))
                    waiting = next(sound, None)
                out.mux(_into(picture, packet))
            while waiting is not None:
                out.mux(_into(*waiting))
                waiting = next(sound, None)
    except FileExistsError:
        raise VideoError(target, "exists already and is kept; ask for overwriting to replace it") from None
    return notes


def _kind(target: Path) -> str:
    return WRITTEN[target.suffix.lower()]


def _rate(facts: Facts) -> Any:
    return facts.rate or 25


def _known_space(space: int) -> int | None:
    # 2 is "not said": the converter's own choice is then the same on the way in and out
    return None if space == 2 else space


@contextlib.contextmanager
def _closing(container: Any) -> Iterator[Any]:
    try:
        yield container
    finally:
        container.close()


def _first_stream(av: Any, segment: Path, out: Any) -> Any:
    with files.opened(segment) as file, _closing(av.open(file, format=_SEGMENT)) as container:
        return out.add_stream_from_template(container.streams.video[0])


def _copied(out: Any, stream: Any, target: Path) -> Any:
    try:
        return out.add_stream_from_template(stream)
    except (ValueError, OSError) as error:
        name = stream.codec_context.name if stream.codec_context else "its sound"
        raise VideoError(target, f"has no place for sound in {name}; give a name that ends in .mkv") from error


def _packets(av: Any, segments: Sequence[Path]) -> Iterator[Any]:
    for segment in segments:
        with files.opened(segment) as file, _closing(av.open(file, format=_SEGMENT)) as container:
            yield from (packet for packet in container.demux(video=0) if packet.dts is not None)


def _sound(video: Video, tracks: dict[int, Any], av: Any) -> Iterator[tuple[Any, Any]]:
    if not tracks:
        return
    streams = [stream for stream in video.container.streams if stream.index in tracks]
    with contextlib.suppress(av.FFmpegError):  # a file that breaks off; reading its frames has reported that
        for packet in video.container.demux(*streams):
            if packet.dts is not None:
                yield tracks[packet.stream.index], packet


def _into(stream: Any, packet: Any) -> Any:
    packet.stream = stream
    return packet

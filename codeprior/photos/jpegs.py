"""JPEG: whether all rows and all scans are there, by its markers and by libjpeg's own warnings, and the pixels.

A decoder fills what is missing with grey. simplejpeg reports the warnings of libjpeg in the same decoding that gives
the pixels; where it cannot be loaded, Pillow decodes and only the markers are checked.
"""

import re
import struct
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from codeprior.photos.formats import Refused

_MAX_SEGMENTS = 4_000
_MAX_TEXT = 16 * 2**20  # bytes of metadata; Pillow joins parts by copying all that came before
_MAX_SCANS = 500
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
_ALONE = {0x01, *range(0xD0, 0xD9)}
_END = b"\xff\xd9"


class Structure(NamedTuple):
    """What the markers of a JPEG show.

    Attributes:
        scans: How many scans there are.
        ended: Whether the end marker is there.
    """

    scans: int
    ended: bool


class Decoded(NamedTuple):
    """A decoded JPEG.

    Attributes:
        image: As Pillow would have decoded it.
        pixels: The same pixels without a copy, `H W 3`, RGB, 8-bit levels; None for other modes.
    """

    image: Image.Image
    pixels: UInt8[np.ndarray, "H W 3"] | None


def structure(content: bytes) -> Structure:
    """Walks the markers, and refuses what is not a picture with all its scans.

    Args:
        content: The whole file.

    Raises:
        Refused: There is no picture data, some scans are missing, or there are too many segments.
    """
    position, segments, text, scans = 2, 0, 0, 0
    frame = b""
    known: dict[int, list[int | None]] = {}
    progressive = False
    while True:
        found = _MARKER.search(content, position)
        if found is None:
            break
        marker, position = found[0][1], found.end()
        if marker == 0xD9:
            break
        if marker in _ALONE:
            continue
        if position + 2 > len(content):
            break
        length = struct.unpack(">H", content[position : position + 2])[0]
        body = content[position + 2 : position + length]
        segments += 1
        text += length if marker >= 0xE0 else 0
        if segments > _MAX_SEGMENTS or text > _MAX_TEXT:
            raise Refused(f"has more than {_MAX_SEGMENTS:,} segments or {_MAX_TEXT >> 20} MiB of metadata")
        if marker in _FRAMES:
            frame, progressive = body, marker in _PROGRESSIVE
        elif marker == 0xDA:
            scans += 1
            _note_scan(body, known)
        position += max(length, 2)
    if not scans or len(frame) < 6:
        raise Refused("is truncated: the JPEG holds no picture data")
    if scans > _MAX_SCANS:
        raise Refused(f"has {scans} progressive scans; decoding them would take too long")
    ended = found is not None
    components = {frame[6 + 3 * place] for place in range(frame[5]) if 6 + 3 * place < len(frame)}
    missing = not components <= set(known)
    if progressive:
        missing |= any(bit != 0 for component in components & set(known) for bit in known[component])
    if missing:
        raise Refused("is truncated: some scans of the JPEG are missing")
    return Structure(scans, ended)


def decoded(content: bytes, image: Image.Image, ended: bool, notes: list[str]) -> Decoded:
    """Gives the pixels of a JPEG, and refuses it where libjpeg says that data is missing or wrong.

    Args:
        content: The whole file.
        image: The same, as Pillow opened it; not decoded yet.
        ended: Whether its end marker is there.
        notes: Gets a sentence where the end marker is missing and nothing else.

    Raises:
        Refused: Rows are missing, or the data is damaged.
    """
    try:
        import simplejpeg
    except ImportError:
        if not ended:
            raise Refused("is truncated: the JPEG does not end") from None
        image.load()
        return Decoded(image, None)
    space = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}.get(image.mode)
    if space is None:
        raise Refused(f"has the mode {image.mode}, which no JPEG has")
    try:
        pixels = simplejpeg.decode_jpeg(content if ended else content + _END, space)
    except ValueError as error:
        reason = str(error)
        if not ended or "remature end" in reason:
            raise Refused("is truncated: the JPEG does not end, or rows of it are missing") from None
        raise Refused(f"is damaged: {reason}") from None
    if not ended:
        notes.append("the end marker of the JPEG was missing, and nothing else")
    if space == "CMYK":  # Pillow knows who stores it inverted
        image.load()
        return Decoded(image, None)
    made = Image.fromarray(np.squeeze(pixels, 2) if space == "GRAY" else pixels)
    made.info = image.info
    return Decoded(made, pixels if space == "RGB" else None)


def _note_scan(body: bytes, known: dict[int, list[int | None]]) -> None:
    """Notes up to which bit the scan gives each coefficient of its components; 0 is the last bit."""
    count = body[0] if body else 0
    if len(body) < 4 + 2 * count:
        raise Refused("is damaged: a scan of the JPEG has no whole header")
    start, stop, bits = body[1 + 2 * count : 4 + 2 * count]
    for place in range(count):
        given = known.setdefault(body[1 + 2 * place], [None] * 64)
        given[start : min(stop, 63) + 1] = [bits & 15] * max(min(stop, 63) + 1 - start, 0)

"""What a picture file claims, checked from its bytes before any decoder sees it.

Decoders fill missing parts with grey and report success; these checks find the end of the data first. Sizes are checked
before memory is allocated. Only the rows of a PNG are checked after decoding, because most files then need no further
look.
"""

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from codeprior.files import printable
from codeprior.photos import formats
from codeprior.photos.formats import Refused

MAX_BYTES = 256 * 2**20
MAX_PIXELS = 64_000_000
MAX_SIDE = 32_768
MAX_ASPECT = 2_000
_MAX_CHUNKS = 100_000
_MAX_RUNS = 16_000_000  # pixels of a BMP whose runs are decoded in Python
_MAX_WORK = 4_000_000_000  # pixels times scans of a progressive JPEG
_PIECE = 2**20
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def check(content: bytes) -> str:
    """Gives the format of a complete file.

    Args:
        content: The whole file.

    Raises:
        Refused: It is no supported picture, or its structure is cut short or damaged.
    """
    kind = formats.kind(content)
    found = kind.format
    if found is None:
        raise Refused(f"is not a supported image ({formats.NAMES}): {kind.name}")
    own = {"PNG": _check_png, "WEBP": _check_webp, "BMP": _check_bmp}.get(found)
    if own is not None:
        own(content)
    elif found == "JXL":
        formats.check(content, found)
        check_size(*formats.jxl_size(content))
    else:
        formats.check(content, found)
    return found


def check_size(width: int, height: int, *, scans: int = 1) -> None:
    """Refuses a picture that is too large, or would take too long to decode.

    Args:
        width: Columns, pixels.
        height: Rows, pixels.
        scans: How often the decoder goes over the picture.

    Raises:
        Refused: A cap is exceeded.
    """
    if width < 1 or height < 1:
        raise Refused(f"is {width}×{height} pixels")
    if max(width, height) > MAX_SIDE or width * height > MAX_PIXELS:
        raise Refused(
            f"is {width}×{height} pixels; at most {MAX_PIXELS // 10**6} megapixels and {MAX_SIDE:,} a side are read"
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise Refused(f"is {width}×{height} pixels, a strip rather than a photograph")
    if scans * width * height > _MAX_WORK:
        raise Refused(f"has {scans} progressive scans; decoding them would take too long")


def check_rows(content: bytes, image: Image.Image) -> None:
    """Refuses a PNG whose rows are not all there; the decoder leaves the missing ones black.

    Args:
        content: The whole file, which `check` let pass.
        image: The same, as Pillow decoded it, unchanged.

    Raises:
        Refused: The picture data ends before the last row.
    """
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", content[16:29])
    # rows are decoded in order and whole: where the last is not black all are there, and need not be inflated again
    if not interlaced and np.asarray(image.crop((0, height - 1, width, height))).any():
        return
    expected = _png_bytes(width, height, depth * _PNG_CHANNELS.get(colour, 1), interlaced=bool(interlaced))
    rows = _Rows(expected)
    for name, start, stop in _png_chunks(content):
        if name == b"IDAT":
            rows.add(memoryview(content)[start:stop])
    if rows.given < expected:
        raise Refused(f"is damaged: the PNG holds {rows.given:,} of {expected:,} bytes of its rows")


def _check_png(content: bytes) -> None:
    if len(content) < 33 or struct.unpack(">I", content[8:12])[0] + 20 > len(content):
        raise Refused("is truncated: the PNG ends inside its header")
    if content[12:16] != b"IHDR":
        raise Refused("is damaged: the PNG has no header")
    check_size(*struct.unpack(">II", content[16:24]))
    view = memoryview(content)
    for number, (name, start, stop) in enumerate(_png_chunks(content)):
        if number == _MAX_CHUNKS:
            raise Refused(f"has more than {_MAX_CHUNKS:,} chunks; no picture needs that")
        if zlib.crc32(view[start - 4 : stop]) != struct.unpack(">I", content[stop : stop + 4])[0]:
            shown = printable(name.decode("ascii", "replace"))
            raise Refused(f"is damaged: the checksum of PNG chunk {shown} is wrong")
        if name == b"IHDR" and (number or stop - start != 13):
            raise Refused("is damaged: the PNG has a second header, or one of another length")


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Gives name, start and end of the body of each chunk, up to the one that ends the picture."""
    position, name = 8, b""
    while name != b"IEND":
        if position + 12 > len(content):
            raise Refused("is truncated: the PNG does not end")
        length, name = struct.unpack(">I4s", content[position : position + 8])
        stop = position + 8 + length
        if stop + 4 > len(content):
            raise Refused("is truncated: the PNG does not end")
        yield name, position + 8, stop
        position = stop + 4


def _check_webp(content: bytes) -> None:
    position, stop = 12, struct.unpack("<I", content[4:8])[0] + 8
    if stop > len(content) + 1:
        raise Refused("is truncated: the WEBP container promises more bytes")
    for _ in range(_MAX_CHUNKS):
        if position + 8 > min(stop, len(content)):
            return
        (length,) = struct.unpack("<I", content[position + 4 : position + 8])
        position += 8 + length + length % 2
    raise Refused(f"has more than {_MAX_CHUNKS:,} chunks; no picture needs that")


def _check_bmp(content: bytes) -> None:
    if len(content) < 34 or content[14] < 40 or content[30] not in (1, 2):
        return
    width, height = (abs(side) for side in struct.unpack("<ii", content[18:26]))
    # two bytes stand for at most 255 pixels
    if width * height > 128 * len(content):
        raise Refused("is truncated: the BMP holds too few runs for its rows")
    if width * height > _MAX_RUNS:
        raise Refused(f"is a run-length BMP of more than {_MAX_RUNS // 10**6} megapixels; decoding takes too long")


def _png_bytes(width: int, height: int, bits: int, *, interlaced: bool) -> int:
    """Gives the bytes of all filtered rows; the passes of Adam7 are pictures of their own."""
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    total = 0
    for left, top, across, down in passes if interlaced else [(0, 0, 1, 1)]:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        total += rows * (1 + -(-columns * bits // 8)) if columns > 0 and rows > 0 else 0
    return total


class _Rows:
    """Inflates the picture data once, piece by piece, to see that all rows are there: decoders fill up with black."""

    def __init__(self, expected: int):
        self.expected, self.given = expected, 0
        self._stream = zlib.decompressobj()

    def add(self, part: memoryview) -> None:
        waiting: bytes | memoryview = part
        try:
            while len(waiting) and not self._stream.eof and self.given < self.expected:
                self.given += len(self._stream.decompress(waiting, _PIECE))
                waiting = self._stream.unconsumed_tail
        except zlib.error as error:
            raise Refused(f"is damaged: {error}") from None

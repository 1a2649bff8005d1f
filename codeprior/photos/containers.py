"""What a picture file claims, checked from its bytes before any decoder sees it.

Decoders fill up what is missing with grey and call it a success; these checks find the end of the data first. Sizes are
checked before memory is asked for.
"""

import struct
import zlib

from codeprior.photos import formats
from codeprior.photos.formats import Refused

MAX_BYTES = 256 * 2**20
MAX_PIXELS = 64_000_000
MAX_SIDE = 32_768
MAX_ASPECT = 2_000
_MAX_SCANS = 500
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
    if found == "JPEG":
        _check_jpeg(content)
    elif found == "PNG":
        _check_png(content)
    elif found == "WEBP" and struct.unpack("<I", content[4:8])[0] + 8 > len(content) + 1:
        raise Refused("is truncated: the WEBP container promises more bytes")
    elif found == "JXL":
        formats.check(content, found)
        check_size(*formats.jxl_size(content), content, found)
    else:
        formats.check(content, found)
    return found


def check_size(width: int, height: int, content: bytes, found: str) -> None:
    """Refuses a picture whose decoded size or work has no bound worth waiting for.

    Args:
        width: Columns, pixels.
        height: Rows, pixels.
        content: The whole file.
        found: Its format.

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
    scans = content.count(b"\xff\xda") if found == "JPEG" else 0
    if scans > _MAX_SCANS or scans * width * height > _MAX_WORK:
        raise Refused(f"has {scans} progressive scans; decoding them would take too long")


def _check_jpeg(content: bytes) -> None:
    scan, end = content.rfind(b"\xff\xda"), content.rfind(b"\xff\xd9")
    if scan < 0:
        raise Refused("is truncated: the JPEG holds no picture data")
    if end < scan:
        raise Refused("is truncated: the JPEG does not end")


def _check_png(content: bytes) -> None:
    position, data = 8, []
    while True:
        if position + 12 > len(content):
            raise Refused("is truncated: the PNG does not end")
        length, name = struct.unpack(">I4s", content[position : position + 8])
        stop = position + 8 + length
        if stop + 4 > len(content):
            raise Refused("is truncated: the PNG does not end")
        if zlib.crc32(memoryview(content)[position + 4 : stop]) != struct.unpack(">I", content[stop : stop + 4])[0]:
            raise Refused(f"is damaged: the checksum of PNG chunk {name.decode('ascii', 'replace')} is wrong")
        if name == b"IDAT":
            data.append(memoryview(content)[position + 8 : stop])
        if name == b"IEND":
            break
        position = stop + 4
    if content[12:16] != b"IHDR" or len(content) < 33:
        raise Refused("is damaged: the PNG has no header")
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", content[16:29])
    check_size(width, height, content, "PNG")
    _check_rows(data, _png_bytes(width, height, depth * _PNG_CHANNELS.get(colour, 1), interlaced=bool(interlaced)))


def _png_bytes(width: int, height: int, bits: int, *, interlaced: bool) -> int:
    """Gives the bytes of all filtered rows; the passes of Adam7 are pictures of their own."""
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    total = 0
    for left, top, across, down in passes if interlaced else [(0, 0, 1, 1)]:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        total += rows * (1 + -(-columns * bits // 8)) if columns > 0 and rows > 0 else 0
    return total


def _check_rows(data: list[memoryview], expected: int) -> None:
    """Inflates the picture data once, piece by piece, to see that all rows are there: decoders fill up with black."""
    stream, given = zlib.decompressobj(), 0
    try:
        for part in data:
            waiting: bytes | memoryview = part
            while len(waiting) and not stream.eof and given < expected:
                given += len(stream.decompress(waiting, _PIECE))
                waiting = stream.unconsumed_tail
    except zlib.error as error:
        raise Refused(f"is damaged: {error}") from None
    if given < expected:
        raise Refused(f"is damaged: the PNG holds {given:,} of {expected:,} bytes of its rows")

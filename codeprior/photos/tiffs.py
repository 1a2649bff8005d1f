"""TIFF: whether every strip or tile of the first page is there and holds what its compression promises.

libtiff warns of most damage and goes on, and Pillow does not report it. Here JPEG strips are decoded with libjpeg's
warnings, and fax data is refused where it holds a run of zeros that no encoder writes. A wrong bit inside CCITT, LZW or
PackBits data is not found: these formats have no checksum.
"""

import struct
import zlib
from collections.abc import Mapping, Sequence

from codeprior.photos.formats import Refused

MAX_PAGES = 1_000
_MAX_ENTRIES = 4_096
_MAX_PARTS = 200_000
_SIZES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}
_DEFLATE, _JPEG, _PLAIN = (8, 32946), 7, 1
_FAX = (2, 3, 4)
_PIECE = 2**20


def check(content: bytes) -> int:
    """Checks the first page and counts the pages.

    Args:
        content: The whole file.

    Returns:
        The number of pages, at most 1,000; more are not counted.

    Raises:
        Refused: The first page is not whole.
    """
    order = "<" if content[:2] == b"II" else ">"
    place, pages, seen = _unpacked(order + "I", content, 4)[0], 0, set()
    while place and place not in seen and pages < MAX_PAGES:
        seen.add(place)
        try:
            (count,) = _unpacked(order + "H", content, place)
            if not pages:
                _check_page(content, order, _tags(content, order, place, count))
            (place,) = _unpacked(order + "I", content, place + 2 + 12 * count)
        except Refused:
            if not pages:
                raise
            break  # only the first page is used
        pages += 1
    if not pages:
        raise Refused("is truncated: the TIFF has no page")
    return pages


def zeros(content: bytes, start: int, stop: int, *, most: int = 64) -> bool:
    """Says whether compressed data has a run of zeros that no encoder writes, such as a hole in a file.

    Args:
        content: The whole file.
        start: Where the data begins.
        stop: Where it ends.
        most: Zeros in a row that are still accepted.
    """
    return content.find(bytes(most + 1), start, stop) >= 0


def _tags(content: bytes, order: str, place: int, count: int) -> dict[int, Sequence[int]]:
    if count > _MAX_ENTRIES:
        raise Refused(f"is damaged: a page of the TIFF has {count} entries")
    tags: dict[int, Sequence[int]] = {}
    for number in range(count):
        name, kind, many, value = _unpacked(order + "HHI4s", content, place + 2 + 12 * number)
        letter = _SIZES.get(kind)
        if letter is None or many > _MAX_PARTS * 4:
            if name == 347:  # tables that JPEG strips share, as bytes
                tags[name] = (struct.unpack(order + "I", value)[0], many)
            continue
        size = struct.calcsize(order + letter) * many
        source, at = (value, 0) if size <= 4 else (content, struct.unpack(order + "I", value)[0])
        tags[name] = _unpacked(f"{order}{many}{letter}", source, at)
    return tags


def _check_page(content: bytes, order: str, tags: Mapping[int, Sequence[int]]) -> None:
    def one(name: int, default: int) -> int:
        return tags.get(name, (default,))[0] if tags.get(name, (default,)) else default

    width, height, samples = one(256, 0), one(257, 0), one(277, 1)
    compression, planes = one(259, 1), samples if one(284, 1) == 2 else 1
    if width < 1 or height < 1:
        raise Refused("is damaged: the TIFF says no size")
    tiled = 324 in tags
    starts, lengths = tags.get(324 if tiled else 273, ()), tags.get(325 if tiled else 279, ())
    rows = min(one(278, height) or height, height)
    across, down = (one(322, width) or width, one(323, height) or height) if tiled else (width, rows)
    wanted = -(-width // across) * -(-height // down) * planes
    if len(starts) < wanted or len(lengths) < min(wanted, len(starts)) or wanted > _MAX_PARTS:
        raise Refused(f"is damaged: the TIFF holds {min(len(starts), len(lengths))} of {wanted} parts of its picture")
    bits = sum(tags.get(258, (1,))) if planes == 1 else one(258, 1)
    bits = max(bits, samples if planes == 1 else 1)
    for number, (start, length) in enumerate(zip(starts[:wanted], lengths, strict=False)):
        if start + length > len(content):
            raise Refused("is truncated: a part of the TIFF ends behind the file")
        last = not tiled and (number + 1) % -(-height // down) == 0
        lines = height - (-(-height // down) - 1) * down if last else down
        expected = lines * -(-across * bits // 8)
        if one(262, 2) == 6 and compression != _JPEG:
            expected = 0  # chroma is smaller by factors of its own
        _check_part(content, start, length, compression=compression, expected=expected, tables=tags.get(347))


def _check_part(
    content: bytes, start: int, length: int, *, compression: int, expected: int, tables: Sequence[int] | None
) -> None:
    if compression == _PLAIN:
        whole = length >= expected
    elif compression in _DEFLATE:
        # the decoder refuses most damage, but not a hole; zeros may also be stored, so then the checksum decides
        hole = zeros(content, start, start + length)
        whole = not hole or _inflates(memoryview(content)[start : start + length], expected)
    elif compression == _JPEG:
        whole = _decodes(content, start, length, tables)
    else:
        # the decoder refuses other compressions that end early, and only warns of fax data
        whole = compression not in _FAX or not zeros(content, start, start + length)
    if not whole:
        raise Refused("is damaged: a part of the TIFF does not hold all its rows")


def _inflates(data: memoryview, expected: int) -> bool:
    stream, given, waiting = zlib.decompressobj(), 0, bytes(data)
    try:
        # to the end, where the checksum is: data that is wrong may well inflate to as many bytes
        while waiting and not stream.eof and given <= expected + _PIECE:
            given += len(stream.decompress(waiting, _PIECE))
            waiting = stream.unconsumed_tail
        return stream.eof and given >= expected
    except zlib.error:
        return False


def _decodes(content: bytes, start: int, length: int, tables: Sequence[int] | None) -> bool:
    try:
        import simplejpeg
    except ImportError:
        return not zeros(content, start, start + length)
    part = content[start : start + length]
    if tables:
        part = content[tables[0] : tables[0] + tables[1] - 2] + part[2:]
    try:
        _, _, space, _ = simplejpeg.decode_jpeg_header(part)
        simplejpeg.decode_jpeg(part, {"Gray": "GRAY", "CMYK": "CMYK", "YCCK": "CMYK"}.get(space, "RGB"))
    except ValueError:
        return False
    return True


def _unpacked(form: str, content: bytes, place: int) -> tuple:
    try:
        return struct.unpack_from(form, content, place)
    except struct.error:
        raise Refused("is truncated: the TIFF ends inside its directory") from None

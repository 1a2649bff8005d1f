"""PNG files, written here: Pillow tries five filters for each row, which takes longer than packing the pixels.

One filter, Paeth's, serves a whole picture. In photographs deflate then looks for runs only, which takes an eighth of
the time of Pillow's default for about the same size; in pictures that are flat or repeat themselves, as a sample of
their rows shows, it looks for matches. Everything beside the pixels comes from Pillow.
"""

import struct
import zlib
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image

_FROM_PILLOW = (b"iCCP", b"gAMA", b"cHRM", b"sRGB", b"eXIf", b"pHYs")
_COLOURS = {3: 2, 4: 6}  # channels to PNG's colour type: RGB, and RGB with alpha
_SUB, _PAETH = 1, 4  # PNG's filters: differences from the pixel to the left, and from what three neighbours predict
_RUNS, _QUICK, _MATCHES, _DEEP = (1, zlib.Z_RLE), (3, 0), (5, 0), (4, 0)  # zlib's level and strategy
_LIKE = 1.02  # of photographs the sample is at most 0.99 times as large by runs as by quick matches, of drawings 1.03
_FLAT = 1 / 8  # of its bytes, below which a sample is too small to show what repeats
_BAND, _SHARE = 8, 32  # rows together, and the share of all rows that is one of the sample
_PIECE = 2**17  # bytes that are filtered at once


def png(
    values: UInt8[np.ndarray, "H W c"] | UInt16[np.ndarray, "H W c"],
    *,
    profile: bytes | None = None,
    options: Mapping[str, Any],
) -> bytes:
    """Gives the PNG file of a picture of 8 or 16 bits a channel.

    Args:
        values: `H W 3`, RGB, or `H W 4` with alpha.
        profile: ICC profile.
        options: Options for Pillow's `save`: `exif`, `dpi`.

    Source: PNG specification, third edition, sections 9 (filters) and 11 (chunks).
    """
    height, width, channels = values.shape
    like = BytesIO()
    more = {"icc_profile": profile} if profile else {}
    Image.new("RGB", (1, 1)).save(like, "PNG", **more, **options)
    chunks = [whole for name, whole in _chunks(like.getvalue()) if name in _FROM_PILLOW]
    header = struct.pack(">IIBBBBB", width, height, 8 * values.itemsize, _COLOURS[channels], 0, 0, 0)
    parts = [_chunk(b"IHDR", header), *chunks, _chunk(b"IDAT", _pixels(values)), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _pixels(values: UInt8[np.ndarray, "H W c"] | UInt16[np.ndarray, "H W c"]) -> bytes:
    height = len(values)
    rows = np.ascontiguousarray(values, ">u2" if values.itemsize == 2 else "u1").view(np.uint8).reshape(height, -1)
    step = values.shape[2] * values.itemsize
    if values.itemsize == 2:
        filtered = np.empty((height, 1 + rows.shape[1]), np.uint8)
        filtered[:, 0], filtered[:, 1 : 1 + step] = _SUB, rows[:, :step]
        np.subtract(rows[:, step:], rows[:, :-step], out=filtered[:, 1 + step :])
        return _packed(filtered, _DEEP)
    filtered = _predicted(rows, step)
    sample = _sample(filtered)
    runs, matches = (len(_packed(sample, way)) for way in (_RUNS, _QUICK))
    # drawings, greys and patterns repeat themselves, and runs alone would make their files several times as large
    repeats = runs > _LIKE * matches or runs < _FLAT * sample.size
    return _packed(filtered, _MATCHES if repeats else _RUNS)


def _predicted(rows: UInt8[np.ndarray, "H n"], step: int) -> UInt8[np.ndarray, "H m"]:
    """Gives each row with its filter's number and each byte less Paeth's prediction from left, above and above left.

    Paeth takes the neighbour that is nearest to `left + above - corner`. In bytes, which must not overflow, this is the
    corner where it lies between the two others and their distances from it differ by less than the smaller one, else
    left where above is at most as far from the corner as left is, else above.
    """
    height, width = rows.shape
    filtered = np.empty((height, 1 + width), np.uint8)
    filtered[:, 0] = _PAETH
    piece = max(1, _PIECE // width)  # so many rows stay in the processor's cache
    around = np.zeros((piece + 1, step + width), np.uint8)
    rooms = np.empty((6, piece * width), np.uint8)
    for top in range(0, height, piece):
        part = rows[top : top + piece]
        count = len(part)
        around[0] = around[piece]  # zeros at first
        around[1 : count + 1, step:] = part
        left, above, corner = around[1 : count + 1, :-step], around[:count, step:], around[:count, :-step]
        a, b, c, d, e, f = (room[: count * width].reshape(count, width) for room in rooms)
        to_left = np.subtract(np.maximum(above, corner, out=a), np.minimum(above, corner, out=b), out=a)
        to_above = np.subtract(np.maximum(left, corner, out=b), np.minimum(left, corner, out=c), out=b)
        nearest = _either(np.less_equal(to_left, to_above, out=c.view(bool)), left, above, out=d)
        less, rest = np.minimum(to_left, to_above, out=e), np.maximum(to_left, to_above, out=f)
        rest -= less
        between = np.less(rest, less, out=f.view(bool))
        between &= np.less(np.minimum(left, above, out=a), corner, out=a.view(bool))
        between &= np.less(corner, np.maximum(left, above, out=b), out=b.view(bool))
        np.subtract(part, _either(between, corner, nearest, out=a), out=filtered[top : top + count, 1:])
    return filtered


def _either(asked: np.ndarray, yes: np.ndarray, no: np.ndarray, *, out: np.ndarray) -> np.ndarray:
    """Gives `np.where(asked, yes, no)` of bytes in a fifth of its time; `asked` is used up."""
    np.bitwise_xor(yes, no, out=out)
    out &= np.negative(asked.view(np.uint8), out=asked.view(np.uint8))
    out ^= no
    return out


def _sample(filtered: UInt8[np.ndarray, "H m"]) -> UInt8[np.ndarray, "h m"]:
    """Gives bands of rows from all over the picture, about a thirty-second of it."""
    height = len(filtered)
    bands = max(1, round(height / _SHARE / _BAND))
    starts = [round((band + 0.5) * max(0, height - _BAND) / bands) for band in range(bands)]
    return np.concatenate([filtered[start : start + _BAND] for start in starts])


def _packed(filtered: UInt8[np.ndarray, "H m"], way: tuple[int, int]) -> bytes:
    level, strategy = way
    packing = zlib.compressobj(level, zlib.DEFLATED, zlib.MAX_WBITS, 9, strategy)
    return packing.compress(filtered.data) + packing.flush()


def _chunk(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(name))
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def _chunks(file: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 8
    while at < len(file):
        end = at + 12 + int.from_bytes(file[at : at + 4], "big")
        found.append((file[at + 4 : at + 8], file[at:end]))
        at = end
    return found

"""Pictures made from scratch: whole ones, and the pieces that awkward and bad ones are put together from."""

import os
import socket
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, PngImagePlugin


class Case(NamedTuple):
    """A picture and what must become of it.

    Attributes:
        name: File name; odd ones are part of the corpus.
        make: Writes it at a path.
        refused: A part of the reason, or None where it must be read.
    """

    name: str
    make: Callable[[Path], object]
    refused: str | None


def scene(height: int = 40, width: int = 56) -> np.ndarray:
    """A smooth colour picture with a corner that shows which way is up."""
    y, x = np.mgrid[:height, :width]
    picture = np.stack([x * 255 / width, y * 255 / height, 128 + 60 * np.sin(x / 5)], axis=-1)
    picture[: height // 4, : width // 4] = (250, 10, 10)
    return picture.round().astype(np.uint8)


def encoded(kind: str, image: Image.Image | None = None, **options: object) -> bytes:
    """The scene, or another picture, as a file."""
    buffer = BytesIO()
    (image or Image.fromarray(scene())).save(buffer, kind, **options)
    return buffer.getvalue()


def png(*chunks: tuple[bytes, bytes], spoil: bytes | None = None) -> bytes:
    """A PNG from bare chunks; the checksum of the chunk `spoil` is wrong."""
    content = b"\x89PNG\r\n\x1a\n"
    for name, body in chunks:
        check = zlib.crc32(name + body) ^ (1 if name == spoil else 0)
        content += struct.pack(">I", len(body)) + name + body + struct.pack(">I", check)
    return content


def header(width: int, height: int, *, depth: int = 8, colour: int = 2) -> tuple[bytes, bytes]:
    """An IHDR chunk."""
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)


def tiff(
    width: int, height: int, *, bits: int = 8, sample_format: int = 1, body: bytes = b"", orientation: int = 1
) -> bytes:
    """An uncompressed one-channel TIFF from bare tags."""
    tags = [
        (256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, 1), (273, 4, 8), (274, 3, orientation),
        (277, 3, 1), (278, 4, height), (279, 4, len(body)), (339, 3, sample_format),
    ]  # fmt: skip
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, kind, 1, v) for tag, kind, v in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + directory + bytes(4)


def written(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def turned(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[274] = orientation
    return tags.tobytes()


def animated(kind: str) -> bytes:
    frames = [Image.fromarray(np.roll(scene(), shift, axis=1)) for shift in (0, 3, 6)]
    return encoded(kind, frames[0], save_all=True, append_images=frames[1:])


def text_bomb() -> bytes:
    body = b"Comment\0\0" + zlib.compress(b"a" * 80_000_000, 9)
    whole = encoded("PNG")
    return (
        whole[:33]
        + struct.pack(">I", len(body))
        + b"zTXt"
        + body
        + struct.pack(">I", zlib.crc32(b"zTXt" + body))
        + whole[33:]
    )


def socket_at(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        folder = os.open(path.parent, os.O_RDONLY)
        try:  # the address has few bytes; the folder's handle keeps it short
            server.bind(f"/proc/self/fd/{folder}/{path.name}")
        finally:
            os.close(folder)


def comment() -> PngImagePlugin.PngInfo:
    found = PngImagePlugin.PngInfo()
    found.add_itxt("Comment", "ünïcödé " * 50, zip=True)
    return found


def spoilt_text() -> bytes:
    whole = encoded("PNG")
    chunk = struct.pack(">I", 4) + b"tEXt" + b"a\0bc" + b"\0\0\0\0"
    return whole[:33] + chunk + whole[33:]


def interlaced() -> bytes:
    # 8 by 8 grey, Adam7: the rows of seven passes, each with its filter byte
    passes = [(1, 1), (1, 1), (2, 1), (2, 2), (4, 2), (4, 4), (8, 4)]
    rows = b"".join((b"\0" + bytes([40 * number] * width)) * height for number, (width, height) in enumerate(passes))
    name, body = header(8, 8, colour=0)
    return png((name, body[:-1] + b"\1"), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))


def flipped(whole: bytes) -> bytes:
    place = whole.index(b"IDAT") + 40
    return whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :]


def many_scans(progressive: bytes) -> bytes:
    start, stop = progressive.rindex(b"\xff\xda"), progressive.rindex(b"\xff\xd9")
    return progressive[:start] + progressive[start:stop] * 600 + progressive[stop:]


def linked(path: Path, content: bytes) -> None:
    hidden = path.parent / ".linked"
    hidden.mkdir(exist_ok=True)
    (hidden / "target").write_bytes(content)
    path.symlink_to(hidden / "target")


def too_long(path: Path) -> None:
    with path.open("wb") as file:
        file.write(encoded("JPEG"))
        file.truncate(257 * 2**20)


def holes(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(20 * 2**20)

"""Which format a picture has, by its first bytes, and what opens it; HEIC and JPEG XL need a package of their own.

Names and suffixes do not matter here. A picture that is recognised but cannot be read is still a picture: whoever walks
through a folder must report it, not skip it like a text.
"""

import struct
from collections.abc import Iterator
from functools import cache
from io import BytesIO
from typing import NamedTuple

from PIL import Image, UnidentifiedImageError, features

from codeprior.extras import needed

READ = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "HEIF", "JXL")
NAMES = "JPEG, PNG, WEBP, BMP, TIFF, GIF, AVIF, HEIC, JPEG XL"
_BMP_HEADERS = tuple(bytes([size]) for size in (12, 40, 52, 56, 64, 108, 124))
_AVIF, _HEIC = (b"avif", b"avis"), (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1", b"mif2")
_JXL_BOX = b"\0\0\0\x0cJXL \r\n\x87\n"
_JXL_RATIOS = ((1, 1), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
# first bytes of what is not read, what it is called, and whether it is a picture made of pixels
_OTHERS = (
    (b"version https://git-lfs", "a Git LFS pointer; fetch the file itself", False),
    (b"<!doctype html", "a web page", False),
    (b"<html", "a web page", False),
    (b"<svg", "an SVG drawing", False),
    (b"<?xml", "an XML document", False),
    (b"%!ps", "a PostScript document", False),
    (b"%pdf", "a PDF document", False),
    (b"pk\x03\x04", "a ZIP archive", False),
    (b"8bps", "a Photoshop document; save it as TIFF or PNG", True),
    (b"\0\0\0\x0cjp  \r\n\x87\n", "a JPEG 2000 picture; convert it first", True),
    (b"\xffo\xffq", "a JPEG 2000 picture; convert it first", True),
    (b"\0\0\1\0", "an icon", True),
    (b"v/1\1", "an OpenEXR picture; convert it first", True),
    (b"#?radiance", "a Radiance HDR picture; convert it first", True),
    (b"qoif", "a QOI picture; convert it first", True),
    (b"dds ", "a DirectDraw surface; convert it first", True),
    (b"fujifilmccd-raw", "a Fujifilm raw file; develop it first", True),
    (b"iiro", "an Olympus raw file; develop it first", True),
    (b"iirs", "an Olympus raw file; develop it first", True),
    (b"iiu\0", "a Panasonic raw file; develop it first", True),
    (b"foveonb", "a Sigma raw file; develop it first", True),
    (b"gimp xcf", "a GIMP document; export it as PNG", True),
    (b"bpg\xfb", "a BPG picture; convert it first", True),
)


class Refused(ValueError):
    """The content is no picture that is read here; the text says why, without the path."""


class Kind(NamedTuple):
    """What the first bytes show.

    Attributes:
        format: One of `READ`, or None.
        name: What else it is, for the user; empty where nothing is known.
        picture: Whether it is a picture, read here or not.
    """

    format: str | None
    name: str
    picture: bool


def kind(content: bytes) -> Kind:
    """Says what a file holds.

    Args:
        content: At least the first 64 bytes.
    """
    found = _format(content)
    if found:
        return Kind(found, "", True)
    start = content[:512].lstrip(b"\t\n\x0b\x0c\r ").lower()
    for magic, name, picture in _OTHERS:
        if start.startswith(magic):
            return Kind(None, name, picture)
    if start[:2] in (b"p1", b"p2", b"p3", b"p4", b"p5", b"p6") and start[2:3].isspace():
        return Kind(None, "a portable anymap (PBM, PGM, PPM); convert it first", True)
    if content[4:8] == b"ftyp":
        raw = content[8:12] == b"crx "
        return Kind(None, "a Canon raw file; develop it first" if raw else "a video or another MPEG-4 file", raw)
    return Kind(None, "the first bytes are " + content[:8].hex(" "), False)


def check(content: bytes, found: str) -> None:
    """Refuses a GIF, AVIF, HEIC or JPEG XL file that is cut short.

    Args:
        content: The whole file.
        found: Its format.

    Raises:
        Refused: A part that the file promises is missing.
    """
    if found in ("AVIF", "HEIF") or (found == "JXL" and content.startswith(_JXL_BOX)):
        for name, start, stop in _boxes(content):
            if stop > len(content) or stop < start:
                raise Refused(f"is truncated: the box {name.decode('ascii', 'replace')!r} promises more bytes")


def open_as(content: bytes, found: str) -> Image.Image:
    """Opens a picture with the decoder of its format and no other; pixels are not decoded yet, JPEG XL excepted.

    Args:
        content: The whole file.
        found: Its format.

    Raises:
        Refused: The package for it is missing, or the decoder does not know it.
    """
    if found == "AVIF" and not features.check("avif"):
        raise Refused("is an AVIF picture, which this Pillow was built without; pip install 'pillow>=11.3'")
    try:
        if found == "HEIF":
            _add_heic()
        elif found == "JXL":
            needed("pillow_jxl", who="is a JPEG XL picture; reading it")
    except ImportError as error:
        raise Refused(str(error)) from None
    try:
        image = Image.open(BytesIO(content), formats=[found])
    except UnidentifiedImageError:
        raise Refused(f"is damaged: it begins as {found} and goes on as something else") from None
    except RuntimeError:
        raise Refused(f"is damaged: the decoder of {found} cannot read its data") from None
    if found == "JXL" and not getattr(image, "jpeg", False):
        image.info.pop("exif", None)  # the decoder has turned the pixels by the codestream, which overrules EXIF
    return image


def jxl_size(content: bytes) -> tuple[int, int]:
    """Gives columns and rows of a JPEG XL picture from its header, because its decoder has no limit.

    Args:
        content: The whole file.

    Raises:
        Refused: There is no such header.

    Source: ISO/IEC 18181-1, SizeHeader; 18181-2, boxes `jxlc` and `jxlp`.
    """
    if content.startswith(_JXL_BOX):
        parts = [(name, start) for name, start, _ in _boxes(content) if name in (b"jxlc", b"jxlp")]
        if not parts:
            raise Refused("is damaged: the JPEG XL container holds no picture")
        name, start = parts[0]
        content = content[start + (4 if name == b"jxlp" else 0) :]
    if content[:2] != b"\xff\x0a" or len(content) < 12:
        raise Refused("is damaged: the JPEG XL picture has no header")
    bits, place = int.from_bytes(content[2:12], "little"), 0

    def take(count: int) -> int:
        nonlocal place
        place += count
        return bits >> (place - count) & ((1 << count) - 1)

    def side(small: int) -> int:
        return (take(5) + 1) * 8 if small else take((9, 13, 18, 30)[take(2)]) + 1

    small = take(1)
    height = side(small)
    ratio = take(3)
    across, down = _JXL_RATIOS[ratio]
    return (height * across // down if ratio else side(small)), height


def gif_frames(content: bytes, *, most: int) -> int:
    """Counts the pictures of a GIF by its blocks.

    Args:
        content: The whole file.
        most: Where counting ends.

    Source: GIF89a specification, section 12 and following.
    """

    def table(flags: int) -> int:
        return 3 * 2 << (flags & 7) if flags & 128 else 0

    place, frames = 13 + table(content[10]) if len(content) > 10 else 13, 0
    while frames < most and place + 9 < len(content):
        if content[place] == 0x2C:
            frames += 1
            place += 11 + table(content[place + 9])  # descriptor, table of colours, size of the codes
        elif content[place] == 0x21:
            place += 2
        else:
            break
        while place < len(content) and content[place]:
            place += 1 + content[place]
        place += 1
    return max(frames, 1)


@cache
def _add_heic() -> None:
    needed("pillow_heif", who="is an HEIC photograph; reading it").register_heif_opener(
        thumbnails=False, depth_images=False, aux_images=False
    )


def _format(content: bytes) -> str | None:
    if content.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WEBP"
    if content.startswith(b"BM") and content[14:15] in _BMP_HEADERS and content[15:18] == bytes(3):
        return "BMP"
    if content[:4] in (b"II*\0", b"MM\0*"):
        return "TIFF"
    if content[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if content.startswith((b"\xff\x0a", _JXL_BOX)):
        return "JXL"
    if content[4:8] == b"ftyp" and len(content) >= 16:
        length = min(struct.unpack(">I", content[:4])[0], 64, len(content))
        brands = [content[8:12], *(content[place : place + 4] for place in range(16, length - 3, 4))]
        # the general brand mif1 may be HEIC or AVIF: the other brands decide
        if brands[0] in _AVIF or (brands[0] in (b"mif1", b"msf1") and not {*brands}.isdisjoint(_AVIF)):
            return "AVIF"
        if brands[0] in _HEIC:
            return "HEIF"
    return None


def _boxes(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Gives name, start of the body and end of each box of the outermost level; the last may end behind the file."""
    place = 0
    while place + 8 <= len(content):
        length, name = struct.unpack(">I4s", content[place : place + 8])
        start, stop = place + 8, place + length
        if length == 0:  # to the end of the file
            stop = len(content)
        elif length == 1 and place + 16 <= len(content):
            start, stop = place + 16, place + struct.unpack(">Q", content[place + 8 : place + 16])[0]
        yield name, start, stop
        if stop <= place:
            return
        place = stop

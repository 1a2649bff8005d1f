"""GIF, AVIF, HEIC and JPEG XL, whole and spoilt, and pictures of formats that are recognised and not read."""

import struct
from functools import cache

import numpy as np
import pillow_heif
import pillow_jxl  # noqa: F401 - registers its format
from PIL import Image, ImageCms

from tests.photos.making import Case, animated, encoded, scene, turned, written

pillow_heif.register_heif_opener()

JXL_BOX = b"\0\0\0\x0cJXL \r\n\x87\n"


def box(name: bytes, body: bytes, *, length: int | None = None) -> bytes:
    """A box of an ISO media file; `length` is what it claims."""
    return struct.pack(">I4s", len(body) + 8 if length is None else length, name) + body


def jxl_header(width: int, height: int) -> bytes:
    """The start of a bare JPEG XL picture that claims a size: both sides with 30 bits."""
    bits, place = 0, 0
    for value, count in ((0, 1), (3, 2), (height - 1, 30), (0, 3), (3, 2), (width - 1, 30)):
        bits |= value << place
        place += count
    return b"\xff\x0a" + bits.to_bytes(10, "little")


def _gif(width: int, height: int) -> bytes:
    """A GIF of a claimed size whose one frame is a pixel."""
    return b"GIF89a" + struct.pack("<HH3x", width, height) + b"," + struct.pack("<4HB", 0, 0, 1, 1, 0) + b"\2\2L\1\0;"


@cache
def good_formats() -> list[Case]:
    """Pictures that must be read."""
    photo = Image.fromarray(scene())
    rgba = photo.copy()
    rgba.putalpha(Image.fromarray(scene()[..., 0]))
    grey, large = photo.convert("L"), Image.fromarray(scene(300, 400))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    palette = photo.quantize(16)
    files: dict[str, bytes] = {
        "plain.gif": encoded("GIF", palette),
        "clear.gif": encoded("GIF", palette, transparency=3),
        "grey.gif": encoded("GIF", grey),
        "interlaced.gif": encoded("GIF", large, interlace=1),
        "flat.gif": encoded("GIF", palette, interlace=0),
        "animated.gif": animated("GIF"),
        "comment.gif": encoded("GIF", palette, comment=b"a remark, and ; semicolons"),
        "one-pixel.gif": encoded("GIF", Image.fromarray(scene()[:1, :1])),
        "no-end.gif": encoded("GIF", palette)[:-1],  # all pixels are there
        "gif-called.jpg": encoded("GIF", palette),
        "plain.avif": encoded("AVIF"),
        "alpha.avif": encoded("AVIF", rgba),
        "grey.avif": encoded("AVIF", grey),
        "icc.avif": encoded("AVIF", icc_profile=profile),
        "coarse.avif": encoded("AVIF", large, quality=5),
        "full-colour.avif": encoded("AVIF", subsampling="4:4:4"),
        "animated.avif": animated("AVIF"),
        "odd-size.avif": encoded("AVIF", Image.fromarray(scene(33, 47))),
        "avif-called.heic": encoded("AVIF"),
        "plain.heic": encoded("HEIF"),
        "IMG_0001.HEIC": encoded("HEIF", large),
        "alpha.heic": encoded("HEIF", rgba),
        "grey.heic": encoded("HEIF", grey),
        "icc.heic": encoded("HEIF", icc_profile=profile),
        "coarse.heic": encoded("HEIF", large, quality=5),
        "burst.heic": animated("HEIF"),
        "odd-size.heif": encoded("HEIF", Image.fromarray(scene(65, 71))),
        "heic-called.jpg": encoded("HEIF"),
        "heic-no-suffix": encoded("HEIF"),
        "plain.jxl": encoded("JXL"),
        "lossless.jxl": encoded("JXL", lossless=True),
        "alpha.jxl": encoded("JXL", rgba),
        "grey.jxl": encoded("JXL", grey),
        "icc.jxl": encoded("JXL", icc_profile=profile),
        "container.jxl": encoded("JXL", exif=turned(1)),
        "wide.jxl": encoded("JXL", Image.fromarray(scene(9, 400))),
        "jxl-called.png": encoded("JXL"),
    }
    for kind in ("AVIF", "HEIF"):
        files |= {f"turned-{value}.{kind.lower()}": encoded(kind, exif=turned(value)) for value in (3, 6, 8)}
    return [Case(name, written(content), None) for name, content in files.items()]


@cache
def bad_formats() -> list[Case]:
    """Files that must be refused with a reason."""
    unsupported = "not a supported image"
    whole = {"gif": encoded("GIF"), "avif": encoded("AVIF"), "heic": encoded("HEIF"), "jxl": encoded("JXL")}
    contained = encoded("JXL", exif=turned(1))
    files: dict[str, tuple[bytes, str]] = {
        "brand-only.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64), "damaged"),
        "short.heic": (b"\0\0\0\x18ftypheic" + bytes(30), "damaged"),
        "brand-only.avif": (b"\0\0\0\x18ftypavif\0\0\0\0mif1avif" + bytes(64), "damaged"),
        "claims.heic": (whole["heic"][:28] + box(b"meta", b"", length=2**31) + whole["heic"][28:], "truncated"),
        "long-box.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + box(b"mdat", bytes(16), length=1), "truncated"),
        "magic-only.jxl": (b"\xff\x0a" + b"\x11" * 40, "damaged"),
        "three-bytes.jxl": (b"\xff\x0a\x11", "no header"),
        "empty-container.jxl": (JXL_BOX + box(b"ftyp", b"jxl \0\0\0\0jxl "), "holds no picture"),
        "claims.jxl": (jxl_header(60000, 60000) + bytes(40), "megapixels"),
        "claims-in-a-box.jxl": (JXL_BOX + box(b"jxlc", jxl_header(2**29, 2**29)), "megapixels"),
        "claims-in-a-part.jxl": (JXL_BOX + box(b"jxlp", bytes(4) + jxl_header(2**29, 9)), "32,768"),
        "long-box.jxl": (contained[:-9] if contained.startswith(JXL_BOX) else whole["jxl"][:-9], ""),
        "claims.gif": (_gif(65535, 65535), "megapixels"),
        "strip.gif": (_gif(30000, 1), "strip"),
        "magic-only.gif": (b"GIF89a", "damaged"),
        "movie.mp4": (box(b"ftyp", b"isom\0\0\2\0isomiso2avc1mp41") + bytes(64), "video"),
        "raw.cr3": (box(b"ftyp", b"crx \0\0\0\1crx isom") + bytes(64), "Canon raw"),
        "raw.raf": (b"FUJIFILMCCD-RAW 0201" + bytes(64), "Fujifilm raw"),
        "raw.orf": (b"IIRO\x08\0\0\0" + bytes(64), "Olympus raw"),
        "raw.rw2": (b"IIU\0\x18\0\0\0" + bytes(64), "Panasonic raw"),
        "raw.x3f": (b"FOVb" + bytes(64), unsupported),
        "wide.exr": (b"v/1\x01" + bytes(64), "OpenEXR"),
        "light.hdr": (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n", "Radiance"),
        "quite.qoi": (b"qoif" + struct.pack(">II", 4, 4) + bytes(40), "QOI"),
        "surface.dds": (encoded("DDS"), "DirectDraw"),
        "document.xcf": (b"gimp xcf v011\0" + bytes(40), "GIMP"),
        "better.bpg": (b"BPG\xfb" + bytes(40), "BPG"),
        "grey.pgm": (b"P5\n# a remark\n4 4\n255\n" + bytes(16), "portable anymap"),
        "two.jp2": (encoded("JPEG2000"), "JPEG 2000"),
        "two.j2k": (encoded("JPEG2000", no_jp2=True), "JPEG 2000"),
        "pen.svg": (b"\n <svg xmlns='http://www.w3.org/2000/svg' width='9'/>", "SVG"),
        "sound.wav": (b"RIFF\x24\0\0\0WAVEfmt " + bytes(24), unsupported),
    }
    for name, content in (*whole.items(), ("boxed.jxl", contained)):
        for share in (10, 50, 95):
            files[f"cut-{share}.{name}"] = (content[: len(content) * share // 100], "")
    noise = np.random.default_rng(1).bytes(400)
    for name, content in whole.items():
        files[f"noise-behind.{name}"] = (content[:40] + noise, "")
    return [Case(name, written(content), reason) for name, (content, reason) in files.items()]

"""Awkward and bad pictures: every one says whether it must be read or refused, and why."""

import os
import struct
import zlib
from functools import cache

import numpy as np
from PIL import Image, ImageCms

from tests.photos.making import (
    Case,
    animated,
    comment,
    encoded,
    flipped,
    header,
    holes,
    interlaced,
    linked,
    many_scans,
    png,
    scene,
    socket_at,
    spoilt_text,
    text_bomb,
    tiff,
    too_long,
    turned,
    written,
)


@cache
def good() -> list[Case]:
    """Awkward pictures that must be read."""
    photo = Image.fromarray(scene())
    rgba = photo.copy()
    rgba.putalpha(Image.fromarray(scene()[..., 0]))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    palette = photo.quantize(32)
    see_through = photo.quantize(32)
    grey16 = Image.fromarray(scene()[..., 0].astype(np.uint16) * 257)
    files: dict[str, bytes] = {
        "plain.jpg": encoded("JPEG"),
        "progressive.jpg": encoded("JPEG", progressive=True),
        "subsampled.jpg": encoded("JPEG", subsampling=2, quality=30),
        "full-colour.jpg": encoded("JPEG", subsampling=0),
        "optimised.jpg": encoded("JPEG", optimize=True),
        "restart.jpg": encoded("JPEG", restart_marker_blocks=2),
        "grey.jpg": encoded("JPEG", photo.convert("L")),
        "cmyk.jpg": encoded("JPEG", photo.convert("CMYK")),
        "icc.jpg": encoded("JPEG", icc_profile=profile),
        "icc-broken.jpg": encoded("JPEG", icc_profile=b"no profile at all"),
        "comment.jpg": encoded("JPEG", comment=b"\0\xff\xd9 not the end"),
        "trailing.jpg": encoded("JPEG") + b"and then some text",
        "zeros.jpg": encoded("JPEG") + bytes(1000),
        "no-end.jpg": encoded("JPEG")[:-2],
        "no-end.progressive.jpg": encoded("JPEG", progressive=True)[:-2],
        "exif-broken.jpg": encoded("JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff garbage"),
        "plain.png": encoded("PNG"),
        "alpha.png": encoded("PNG", rgba),
        "opaque.png": encoded("PNG", photo.convert("RGBA")),
        "grey.png": encoded("PNG", photo.convert("L")),
        "grey-alpha.png": encoded("PNG", rgba.convert("LA")),
        "one-bit.png": encoded("PNG", photo.convert("1")),
        "palette.png": encoded("PNG", palette),
        "palette-clear.png": encoded("PNG", see_through, transparency=3),
        "palette-few.png": encoded("PNG", photo.quantize(3), bits=2),
        "grey16.png": encoded("PNG", grey16),
        "rgb16.png": png(
            header(4, 3, depth=16), (b"IDAT", zlib.compress((b"\0" + bytes(range(24))) * 3)), (b"IEND", b"")
        ),
        "icc.png": encoded("PNG", icc_profile=profile),
        "text.png": encoded("PNG", pnginfo=comment()),
        "interlaced.png": interlaced(),
        "trailing.png": encoded("PNG") + b"PK\x03\x04 an archive behind",
        "level0.png": encoded("PNG", compress_level=0),
        "animated.png": animated("PNG"),
        "lossy.webp": encoded("WEBP", quality=60),
        "lossless.webp": encoded("WEBP", lossless=True),
        "alpha.webp": encoded("WEBP", rgba),
        "animated.webp": animated("WEBP"),
        "icc.webp": encoded("WEBP", icc_profile=profile),
        "plain.bmp": encoded("BMP"),
        "grey.bmp": encoded("BMP", photo.convert("L")),
        "palette.bmp": encoded("BMP", palette),
        "one-bit.bmp": encoded("BMP", photo.convert("1")),
        "raw.tif": encoded("TIFF"),
        "lzw.tif": encoded("TIFF", compression="tiff_lzw"),
        "deflate.tif": encoded("TIFF", compression="tiff_deflate"),
        "packbits.tif": encoded("TIFF", compression="packbits"),
        "jpeg.tif": encoded("TIFF", compression="jpeg"),
        "grey16.tif": encoded("TIFF", grey16),
        "cmyk.tif": encoded("TIFF", photo.convert("CMYK")),
        "alpha.tif": encoded("TIFF", rgba),
        "pages.tif": animated("TIFF"),
        "big-endian.tif": encoded("TIFF", big_tiff=False),
        "one-pixel.png": encoded("PNG", Image.fromarray(scene()[:1, :1])),
        "narrow.png": encoded("PNG", Image.fromarray(scene(2, 3000))),
        "jpeg-called.png": encoded("JPEG"),
        "png-called.jpg": encoded("PNG"),
        "no-suffix": encoded("PNG"),
        "UPPER.JPG": encoded("JPEG"),
        "with space.jpg": encoded("JPEG"),
        "ünïcödé 写真 🙂.jpg": encoded("JPEG"),
        "new\nline.jpg": encoded("JPEG"),
        "\x1b[31mred.jpg": encoded("JPEG"),
        "-dash.jpg": encoded("JPEG"),
        "--weights.jpg": encoded("JPEG"),
        "quote'\".jpg": encoded("JPEG"),
        "per%cent {brace}.jpg": encoded("JPEG"),
        "n" * 200 + ".jpg": encoded("JPEG"),
    }
    files |= {f"exif-{value}.jpg": encoded("JPEG", exif=turned(value)) for value in range(1, 9)}
    files |= {f"exif-odd-{value}.jpg": encoded("JPEG", exif=turned(value)) for value in (0, 9, 65535)}
    files |= {f"turned-{value}.tif": tiff(8, 6, body=bytes(range(48)), orientation=value) for value in (1, 3, 6, 8)}
    cases = [Case(name, written(content), None) for name, content in files.items()]
    target = encoded("PNG")
    cases.append(Case("link.png", lambda path: linked(path, target), None))
    return cases


@cache
def bad() -> list[Case]:
    """Files that must be refused with a reason."""
    jpeg, progressive, whole = encoded("JPEG"), encoded("JPEG", progressive=True), encoded("PNG")
    webp, bmp, deflate = encoded("WEBP"), encoded("BMP"), encoded("TIFF", compression="tiff_deflate")
    unsupported = "not a supported image"
    files: dict[str, tuple[bytes, str]] = {
        "empty.jpg": (b"", "is empty"),
        "text.jpg": (b"just some words", unsupported),
        "page.jpg": (b"<!DOCTYPE html><html><body>404</body></html>", "a web page"),
        "pointer.png": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS pointer"),
        "zeros.jpg": (bytes(4096), unsupported),
        "noise.png": (np.random.default_rng(0).bytes(4096), unsupported),
        "magic-only.png": (b"\x89PNG\r\n\x1a\n", "truncated"),
        "magic-only.jpg": (b"\xff\xd8\xff", "truncated"),
        "magic-only.webp": (b"RIFF\x04\0\0\0WEBP", "damaged"),
        "magic-only.tif": (b"II*\0", "damaged"),
        "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        "script.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n", "PostScript"),
        "paper.pdf": (encoded("PDF"), "PDF"),
        "layers.psd": (b"8BPS\0\1" + bytes(30), "Photoshop"),
        "archive.zip": (b"PK\x03\x04" + bytes(30), "ZIP"),
        "icon.ico": (encoded("ICO"), unsupported),
        "portable.ppm": (encoded("PPM"), unsupported),
        "targa.tga": (encoded("TGA"), unsupported),
        "wave.jpg": (encoded("JPEG2000"), unsupported),
        "lookalike.bmp": (b"BM" + bytes(60), unsupported),
        "no-scan.jpg": (jpeg[: jpeg.rfind(b"\xff\xda")] + b"\xff\xd9", "truncated"),
        "no-end.png": (whole[:-12], "truncated"),
        "no-data.png": (png(header(8, 8), (b"IEND", b"")), "damaged"),
        "spoilt-header.png": (
            png(header(8, 8), (b"IDAT", zlib.compress(bytes(200))), (b"IEND", b""), spoil=b"IHDR"),
            "checksum",
        ),
        "spoilt-data.png": (
            png(header(8, 8), (b"IDAT", zlib.compress(bytes(200))), (b"IEND", b""), spoil=b"IDAT"),
            "checksum",
        ),
        "short-data.png": (png(header(8, 8), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")), "damaged"),
        "spoilt-text.png": (spoilt_text(), "checksum"),
        "flipped-data.png": (flipped(whole), "checksum"),
        "no-pixels.png": (png(header(0, 8), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")), ""),
        "bomb.png": (png(header(30000, 30000), (b"IDAT", zlib.compress(bytes(90_000_000), 9)), (b"IEND", b"")), ""),
        "claims.png": (png(header(2**31 - 1, 2**31 - 1), (b"IDAT", b""), (b"IEND", b"")), ""),
        "long.png": (png(header(32769, 1), (b"IDAT", zlib.compress(bytes(98308))), (b"IEND", b"")), "32,768"),
        "strip.png": (png(header(30000, 1), (b"IDAT", zlib.compress(bytes(90001))), (b"IEND", b"")), "strip"),
        "text-bomb.png": (text_bomb(), "damaged"),
        "many-scans.jpg": (many_scans(progressive), "progressive scans"),
        "claims.webp": (webp[:4] + struct.pack("<I", 2**31) + webp[8:], "truncated"),
        "claims.bmp": (bmp[:18] + struct.pack("<ii", 60000, 60000) + bmp[26:], "megapixels"),
        "float.tif": (
            tiff(4, 3, bits=32, sample_format=3, body=np.linspace(0, 1, 12).astype("<f4").tobytes()),
            "floats",
        ),
        "nan.tif": (tiff(4, 3, bits=32, sample_format=3, body=np.full(12, np.nan, "<f4").tobytes()), "floats"),
        "int32.tif": (tiff(4, 3, bits=32, sample_format=2, body=np.arange(12, dtype="<i4").tobytes()), "integers"),
        "short.tif": (tiff(400, 300, body=bytes(48)), "damaged"),
        "loop.tif": (b"II*\0\x08\0\0\0\x00\x00\x08\0\0\0", "damaged"),
        "claims.tif": (tiff(60000, 60000, body=bytes(48)), "megapixels"),
    }
    for name, content in (("jpg", jpeg), ("progressive.jpg", progressive), ("png", whole), ("webp", webp)):
        for share in (10, 50, 95):
            files[f"cut-{share}.{name}"] = (content[: len(content) * share // 100], "truncated")
    for name, content in (("bmp", bmp), ("tif", deflate)):
        for share in (10, 50, 95):
            files[f"cut-{share}.{name}"] = (content[: len(content) * share // 100], "damaged")
    cases = [Case(name, written(content), reason) for name, (content, reason) in files.items()]
    cases += [
        Case("folder.jpg", lambda path: path.mkdir(), "is a folder"),
        Case("pipe.jpg", lambda path: os.mkfifo(path), "is a pipe"),
        Case("socket.jpg", socket_at, "opened"),
        Case("device.jpg", lambda path: path.symlink_to("/dev/zero"), "device"),
        Case("dangling.jpg", lambda path: path.symlink_to("nowhere"), "does not exist"),
        Case("loop.jpg", lambda path: path.symlink_to(path.name), "opened"),
        Case("missing.jpg", lambda path: None, "does not exist"),
        Case("huge.jpg", too_long, "bytes, more than"),
        Case("holes.jpg", holes, "not a supported image"),
    ]
    return cases

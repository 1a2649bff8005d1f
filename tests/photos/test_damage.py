"""Damage that decoders fill up in silence, and counts without end: refused, or read with a note, in bounded work."""

import io
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from codeprior.photos.files import PhotoError, decode
from tests.photos.making import encoded, header, png, scene

_END = b"\xff\xd9"


def _photo() -> Image.Image:
    return Image.fromarray(scene(200, 200))


def _jpegs() -> dict[str, bytes]:
    kinds = {"baseline": {}, "progressive": {"progressive": True}, "restarts": {"restart_marker_blocks": 2}}
    kinds |= {"grey": {}, "full colour": {"subsampling": 0}, "optimised": {"optimize": True}}
    return {n: encoded("JPEG", _photo().convert("L") if n == "grey" else _photo(), **o) for n, o in kinds.items()}


@pytest.mark.parametrize("share", [20, 35, 50, 65, 80, 95])
@pytest.mark.parametrize("name", _jpegs())
def test_a_jpeg_cut_short_is_refused_though_it_ends_with_the_marker(name, share):
    content = _jpegs()[name]
    start = content.rfind(b"\xff\xda") if name != "progressive" else content.find(b"\xff\xda")
    cut = start + (len(content) - start) * share // 100
    with pytest.raises(PhotoError, match="truncated|damaged"):
        decode(content[:cut] + _END, "a.jpg")


@pytest.mark.parametrize("name", _jpegs())
def test_a_missing_end_marker_alone_is_a_note(name):
    whole, bare = decode(_jpegs()[name], "a.jpg"), decode(_jpegs()[name][:-2], "a.jpg")
    assert np.array_equal(whole.pixels, bare.pixels)
    assert "the end marker of the JPEG was missing, and nothing else" in bare.notes


@pytest.mark.parametrize("name", _jpegs())
def test_pixels_are_those_that_pillow_gives(name):
    expected = np.array(Image.open(io.BytesIO(_jpegs()[name])).convert("RGB"))
    assert np.array_equal(decode(_jpegs()[name], "a.jpg").pixels, expected)


@pytest.mark.parametrize("keep", range(1, 6))
def test_a_progressive_jpeg_with_some_of_its_scans_is_refused(keep):
    content = _jpegs()["progressive"]
    places = [place for place in range(len(content)) if content.startswith(b"\xff\xda", place)]
    assert len(places) > 6
    # what stands before a scan's header (its tables) goes with it
    cut = content.rfind(b"\xff\xc4", 0, places[keep])
    with pytest.raises(PhotoError, match="scans of the JPEG are missing"):
        decode(content[: max(cut, places[keep - 1] + 20)] + _END, "a.jpg")


def _tiff(compression: str) -> tuple[bytes, list[tuple[int, int]]]:
    image = _photo().convert("1") if compression.startswith("group") else _photo()
    made = io.BytesIO()
    image.save(made, "TIFF", compression=compression)
    tags = Image.open(io.BytesIO(made.getvalue())).tag_v2  # pyright: ignore[reportAttributeAccessIssue]
    return made.getvalue(), list(zip(tags[273], tags[279], strict=True))


@pytest.mark.parametrize("compression", ["tiff_deflate", "tiff_lzw", "packbits", "jpeg", "group3", "group4"])
def test_strips_with_holes_are_refused(compression):
    content, strips = _tiff(compression)
    decode(content, "a.tif")
    holed = bytearray(content)
    for start, length in strips:
        holed[start + length // 2 : start + length] = bytes(length - length // 2)
    with pytest.raises(PhotoError, match="does not hold all its rows|decoder error"):
        decode(bytes(holed), "a.tif")


def test_deflated_zeros_are_no_hole():
    made = io.BytesIO()
    Image.new("RGB", (300, 300)).save(made, "TIFF", compression="tiff_deflate")
    assert not decode(made.getvalue(), "a.tif").pixels.any()


def test_lossless_webp_data_with_a_hole_is_refused():
    """Of lossy data nobody can tell: zeros are what a flat picture is made of, as the guide says."""
    content = encoded("WEBP", _photo(), lossless=True)
    with pytest.raises(PhotoError, match="damaged"):
        decode(content[: len(content) // 2] + bytes(len(content) - len(content) // 2), "a.webp")


@pytest.mark.parametrize("colour", [(0, 0, 0), (200, 10, 30), (255, 255, 255)])
def test_flat_webp_pictures_are_read(colour):
    for options in ({"quality": 60}, {"lossless": True}):
        decode(encoded("WEBP", Image.new("RGB", (2000, 1000), colour), **options), "a.webp")


@pytest.mark.parametrize("second", [header(8, 200), header(8, 8)])
def test_a_second_header_is_refused(second):
    rows = (b"IDAT", zlib.compress(bytes(8 * 25)))
    for chunks in ((header(8, 8), second, rows), (header(8, 8), rows, second)):
        with pytest.raises(PhotoError, match="second header"):
            decode(png(*chunks, (b"IEND", b"")), "a.png")


def _pages(count: int) -> bytes:
    """A TIFF of one sound page and a chain of empty directories behind it."""
    made = io.BytesIO()
    _photo().save(made, "TIFF")
    content = bytearray(made.getvalue())
    place = struct.unpack("<I", content[4:8])[0]
    entries = struct.unpack("<H", content[place : place + 2])[0]
    following = place + 2 + 12 * entries
    start = len(content)
    content[following : following + 4] = struct.pack("<I", start)
    for number in range(count):
        content += struct.pack("<HI", 0, start + 6 * (number + 1) if number < count - 1 else 0)
    return bytes(content)


def _many(kind: str) -> tuple[bytes, str | None]:
    if kind == "TIFF pages":
        return _pages(200_000), None
    if kind == "EXIF segments":
        segment = b"\xff\xe1\xff\xffExif\0\0" + bytes(65_527)
        whole = encoded("JPEG", _photo())
        return whole[:2] + segment * 1_000 + whole[2:], "segments or 16 MiB of metadata"
    if kind == "comments":
        whole = encoded("JPEG", _photo())
        return whole[:2] + b"\xff\xfe\0\2" * 100_000 + whole[2:], "segments or 16 MiB of metadata"
    if kind == "IDATs":
        empty = b"\0\0\0\0IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
        whole = encoded("PNG", _photo())
        return whole[:33] + empty * 1_000_000 + whole[33:], "more than 100,000 chunks"
    if kind == "runs of few bytes":
        return _runs(30_000, 2_000, 16_000), "too few runs"
    if kind == "runs of many pixels":
        return _runs(8_000, 8_000, 600_000), "16 megapixels"
    frames = encoded("GIF", _photo().quantize(4))
    start = frames.find(b",", 13 + 3 * (2 << (frames[10] & 7)))
    return frames[:-1] + frames[start:-1] * 3_000 + frames[-1:], None


def _runs(width: int, height: int, size: int) -> bytes:
    offset, data = 14 + 40 + 1024, (b"\xff\7" * (size // 2))
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(data), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", offset + len(data), 0, 0, offset) + info + bytes(1024) + data


@pytest.mark.parametrize(
    "kind",
    ["TIFF pages", "EXIF segments", "comments", "IDATs", "runs of few bytes", "runs of many pixels", "GIF frames"],
)
def test_counts_have_caps(kind):
    content, reason = _many(kind)
    started = time.process_time()
    if reason is None:
        assert any("1,000 or more frames" in note for note in decode(content, "a").notes)
    else:
        with pytest.raises(PhotoError, match=reason):
            decode(content, "a")
    # what took seconds to minutes; a bound that a slow machine keeps
    assert time.process_time() - started < 5


def test_what_a_photograph_says_of_itself_is_kept(tmp_path):
    from codeprior.photos import read, write

    exif = Image.Exif()
    exif[274], exif[270], exif[306], exif[271] = 6, "At the lake", "1999:01:02 03:04:05", "TestCam"
    exif[34853] = {1: "N", 2: (47.0, 0.0, 0.0)}
    (tmp_path / "a.jpg").write_bytes(encoded("JPEG", Image.fromarray(scene(20, 30)), exif=exif, dpi=(300, 300)))
    photo = read(tmp_path / "a.jpg")
    assert photo.pixels.shape == (30, 20, 3)
    for suffix, place in (("jpg", True), ("png", True), ("webp", True), ("tif", False)):
        write(tmp_path / f"b.{suffix}", photo.pixels, metadata=photo.metadata)
        with Image.open(tmp_path / f"b.{suffix}") as image:
            found = image.getexif()
            assert (found[270], found[306], found[271]) == ("At the lake", "1999:01:02 03:04:05", "TestCam")
            assert found.get(274, 1) == 1
            assert not place or found.get_ifd(34853)[1] == "N"
            assert suffix == "webp" or [round(side) for side in image.info["dpi"]] == [300, 300]
        assert read(tmp_path / f"b.{suffix}").pixels.shape == (30, 20, 3)


@pytest.mark.parametrize("kind", ["png", "tif"])
def test_depth_that_is_lost_is_noted(kind):
    if kind == "png":
        content = png(header(4, 3, depth=16), (b"IDAT", zlib.compress((b"\0" + bytes(range(24))) * 3)), (b"IEND", b""))
    else:
        import cv2

        content = cv2.imencode(".tif", (scene(8, 8).astype(np.uint16) * 257))[1].tobytes()
    assert "16 bits a channel were read as 8" in decode(content, f"a.{kind}").notes


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16"])
def test_a_png_of_which_any_row_is_missing_is_refused(mode):
    photo = Image.fromarray(scene(24, 20))
    if mode == "I;16":
        image = Image.fromarray((scene(24, 20)[..., 0].astype(np.uint16) << 8) + 7)
    else:
        image = photo.quantize(16) if mode == "P" else photo.convert(mode)
    whole = encoded("PNG", image)
    chunks, place = [], 8
    while place < len(whole):
        length, name = struct.unpack(">I4s", whole[place : place + 8])
        chunks.append((name, whole[place + 8 : place + 8 + length]))
        place += 12 + length
    data = zlib.decompress(b"".join(body for name, body in chunks if name == b"IDAT"))
    before = [chunk for chunk in chunks if chunk[0] not in (b"IDAT", b"IEND")]

    def of(rows: bytes) -> bytes:
        return png(*before, (b"IDAT", zlib.compress(rows)), (b"IEND", b""))

    pixels = decode(of(data), "a.png").pixels
    assert pixels.shape == (24, 20, 3) and pixels[-1].any()
    row = len(data) // 24
    for kept in (0, 1, row, len(data) - 2 * row, len(data) - row, len(data) - 1):
        with pytest.raises(PhotoError, match="of its rows|is truncated|is damaged"):
            decode(of(data[:kept]), "a.png")


def test_black_rows_at_the_end_of_a_png_are_no_damage():
    pixels = scene(24, 20)
    pixels[12:] = 0
    np.testing.assert_array_equal(decode(encoded("PNG", Image.fromarray(pixels)), "a.png").pixels, pixels)

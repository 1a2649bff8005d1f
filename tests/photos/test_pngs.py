import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageDraw

from codeprior.photos.pngs import png

RNG = np.random.default_rng(0)


def photograph() -> np.ndarray:
    return pytest.importorskip("skimage.data").astronaut()


def drawing() -> np.ndarray:
    image = Image.new("RGB", (640, 480), "white")
    draw = ImageDraw.Draw(image)
    for number in range(50):
        x, y, width, height = (int(value) for value in RNG.integers((0, 0, 10, 10), (640, 480, 200, 200)))
        draw.ellipse((x, y, x + width, y + height), fill=tuple(RNG.integers(0, 256, 3).tolist()), outline="black")
        draw.text((x, y), f"a line of text, {number}", fill="black")
    return np.asarray(image)


def sheet() -> np.ndarray:
    """A photograph, a grey map and a caption on white, as a comparison sheet has them."""
    face = photograph()
    image = Image.new("RGB", (1100, 560), "white")
    image.paste(Image.fromarray(face), (20, 28))
    image.paste(Image.fromarray(face[..., 1]).resize((64, 64)).resize((512, 512), Image.Resampling.NEAREST), (560, 28))
    ImageDraw.Draw(image).text((20, 8), "before and where the model guessed", fill="black")
    return np.asarray(image)


def grey() -> np.ndarray:
    return np.repeat(photograph()[..., 1:2], 3, 2)


def pattern() -> np.ndarray:
    return np.tile(RNG.integers(0, 256, (24, 24, 3), dtype=np.uint8), (15, 15, 1))


def shading() -> np.ndarray:
    y, x = np.mgrid[:300, :400]
    return np.stack([x // 2, y // 2, (x + y) // 4], 2).astype(np.uint8)


@pytest.mark.parametrize("make", [photograph, drawing, sheet, grey, pattern, shading])
def test_no_picture_becomes_much_larger_than_by_pillow(make):
    pixels, by_pillow = make(), BytesIO()
    Image.fromarray(pixels).save(by_pillow, "PNG")
    file = png(pixels, options={})
    assert np.array_equal(np.asarray(Image.open(BytesIO(file))), pixels)
    # the tables of a deflate block are hundreds of bytes, which counts in files of four thousand
    assert len(file) <= 1.1 * len(by_pillow.getvalue()) + 256


@pytest.mark.parametrize(("make", "way"), [(photograph, (1, zlib.Z_RLE)), (drawing, (5, 0)), (grey, (5, 0))])
def test_runs_are_looked_for_in_photographs_and_matches_in_what_repeats(make, way):
    # searching a photograph for matches takes four times as long, and finds none
    packed = _data(png(make(), options={}))
    again = zlib.compressobj(way[0], zlib.DEFLATED, zlib.MAX_WBITS, 9, way[1])
    assert packed == again.compress(zlib.decompress(packed)) + again.flush()


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 5, 4), (7, 1, 3), (9, 11, 4), (300, 173, 3)])
@pytest.mark.parametrize("levels", [2, 7, 256])
def test_each_byte_is_what_paeths_definition_leaves(shape, levels):
    pixels = (RNG.integers(0, levels, shape) * (255 // (levels - 1))).astype(np.uint8)
    height, width, channels = shape
    rows = np.frombuffer(zlib.decompress(_data(png(pixels, options={}))), np.uint8).reshape(height, -1)
    assert (rows[:, 0] == 4).all()
    around = np.zeros((height + 1, width + 1, channels), int)
    around[1:, 1:] = pixels
    left, above, corner = around[1:, :-1], around[:-1, 1:], around[:-1, :-1]
    # section 9.4 of the specification: ties go to the left, then above
    near = np.stack([abs(above - corner), abs(left - corner), abs(left + above - 2 * corner)])
    expected = np.take_along_axis(np.stack([left, above, corner]), near.argmin(0)[None], 0)[0]
    assert np.array_equal(rows[:, 1:].reshape(shape), (pixels - expected).astype(np.uint8))


def _data(file: bytes) -> bytes:
    at, data = 8, b""
    while at < len(file):
        length, name = int.from_bytes(file[at : at + 4], "big"), file[at + 4 : at + 8]
        data += file[at + 8 : at + 8 + length] if name == b"IDAT" else b""
        at += 12 + length
    return data

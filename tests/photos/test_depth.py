"""Sixteen bits a channel: read, pasted over and written without losing a bit of what no face covers."""

from io import BytesIO

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageCms, ImageOps

from codeprior.photos import PhotoError, read, write
from codeprior.photos.faces import align, paste, template
from codeprior.photos.files import decode
from codeprior.photos.metadata import Metadata
from tests.photos.making import scene


def _deep(height: int = 48, width: int = 40) -> np.ndarray:
    rng = np.random.default_rng(height)
    return (scene(height, width).astype(np.uint16) << 8) | rng.integers(0, 256, (height, width, 3), dtype=np.uint16)


def _png(values: np.ndarray) -> bytes:
    return cv2.imencode(".png", values[:, :, ::-1] if values.shape[2] == 3 else values[:, :, [2, 1, 0, 3]])[1].tobytes()


@pytest.mark.parametrize("suffix", ["png", "tif", "tiff"])
@given(values=st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(lambda size: arrays(np.uint16, (*size, 3))))
def test_what_is_written_is_read_again_to_the_bit(values, suffix, tmp_path_factory):
    path = tmp_path_factory.mktemp("deep") / f"a.{suffix}"
    write(path, values)
    photo = read(path, keep_depth=True)
    assert photo.deep is not None and np.array_equal(photo.deep, values) and not photo.notes
    assert np.array_equal(photo.pixels, values >> 8)
    # as others read it
    other = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert other is not None and np.array_equal(other[:, :, ::-1], values)


def test_values_that_lie_otherwise_in_memory_are_written_as_they_read(tmp_path):
    turned = _deep().swapaxes(0, 1)
    write(tmp_path / "a.png", turned)
    assert np.array_equal(read(tmp_path / "a.png", keep_depth=True).deep, turned)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_profile_date_camera_and_resolution_are_kept(suffix, tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[271], exif[306] = "A camera", "2020:01:02 03:04:05"
    write(tmp_path / f"a.{suffix}", _deep(), profile=profile, metadata=Metadata(exif.tobytes(), (300.0, 240.0)))
    image = Image.open(tmp_path / f"a.{suffix}")
    assert image.getexif()[271] == "A camera" and image.getexif()[306] == "2020:01:02 03:04:05"
    assert image.info["icc_profile"] == profile
    assert image.info["dpi"] == pytest.approx((300, 240), abs=0.02)  # PNG counts pixels a metre
    assert read(tmp_path / f"a.{suffix}").profile == profile


@pytest.mark.parametrize("orientation", range(1, 9))
def test_values_are_turned_upright_with_the_picture(orientation, tmp_path):
    exif = Image.Exif()
    exif[274] = orientation
    values = _deep(7, 5)
    write(tmp_path / "a.png", values, metadata=Metadata(exif.tobytes()))
    photo = read(tmp_path / "a.png", keep_depth=True)
    high, low = (Image.fromarray(part.astype(np.uint8)) for part in (values >> 8, values & 255))
    for image in (high, low):
        image.getexif()[274] = orientation
    high, low = (np.asarray(ImageOps.exif_transpose(image)).astype(np.uint16) for image in (high, low))
    assert photo.deep is not None and np.array_equal(photo.deep, high << 8 | low)


def test_sixteen_bit_grey_is_kept_in_three_equal_channels(tmp_path):
    grey = _deep()[:, :, 0]
    Image.fromarray(grey).save(tmp_path / "a.png")
    photo = read(tmp_path / "a.png", keep_depth=True)
    assert photo.deep is not None and np.array_equal(photo.deep, np.repeat(grey[..., None], 3, 2)) and not photo.notes
    assert np.array_equal(photo.pixels[..., 0], np.rint(grey / 257))


def test_what_is_not_kept_is_noted():
    content, note = _png(_deep()), "16 bits a channel were read as 8"
    assert decode(content, "a.png").deep is None and note in decode(content, "a.png").notes
    opaque = np.dstack([_deep(), np.full((48, 40), 65535, np.uint16)])
    kept = decode(_png(opaque), "a.png", keep_depth=True)
    assert kept.deep is not None and np.array_equal(kept.deep, _deep()) and note not in kept.notes
    opaque[0, 0, 3] = 40000
    for keep_alpha in (True, False):
        photo = decode(_png(opaque), "a.png", keep_depth=True, keep_alpha=keep_alpha)
        assert photo.deep is None and note in photo.notes
    eight = BytesIO()
    Image.fromarray(scene()).save(eight, "PNG")
    assert decode(eight.getvalue(), "a.png", keep_depth=True).deep is None


def test_a_decoder_that_reads_another_picture_is_not_believed(monkeypatch):
    other = _deep()[:, :, ::-1].copy()
    other[3, 4, 1] ^= 0x100
    monkeypatch.setattr("cv2.imdecode", lambda *_: other)
    photo = decode(_png(_deep()), "a.png", keep_depth=True)
    assert photo.deep is None and "16 bits a channel were read as 8" in photo.notes
    assert np.array_equal(photo.pixels, _deep() >> 8)


@pytest.mark.parametrize("suffix", ["jpg", "webp", "bmp"])
def test_formats_without_depth_are_refused(suffix, tmp_path):
    with pytest.raises(PhotoError, match="keeps 16 bits a channel only as PNG or TIFF"):
        write(tmp_path / f"a.{suffix}", _deep())
    with pytest.raises(PhotoError, match="without alpha"):
        write(tmp_path / "a.png", _deep(), alpha=np.zeros((48, 40), np.uint8))
    assert not list(tmp_path.iterdir())


def test_a_face_is_pasted_in_sixteen_bits_as_in_eight():
    photo = _deep(160, 160)
    points = template(64) + 48
    crop = align((photo >> 8).astype(np.uint8), points, size=64)
    face = crop._replace(image=torch.full((3, 64, 64), 0.3))
    deep, flat = paste(photo, [face]), paste((photo >> 8).astype(np.uint8), [face])
    assert deep.dtype == np.uint16
    # the eight bits of the photograph are cut off, not rounded: up to a level lower
    assert np.abs(deep / 257 - flat).max() <= 1.5
    middle = deep[75:85, 75:85]
    assert (np.abs(middle.astype(float) - 0.3 * 65535) <= 1).all()
    outside = np.ones((160, 160), bool)
    outside[48:112, 48:112] = False
    assert np.array_equal(deep[outside], photo[outside])

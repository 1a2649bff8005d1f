"""Pictures are told by their content: what a phone writes is read, and what is not read is named."""

import sys

import numpy as np
import pytest
from PIL import Image, features

from codeprior.commands._jobs import jobs
from codeprior.photos import PhotoError, read
from codeprior.photos.formats import jxl_size, kind
from tests.photos.corpus_formats import JXL_BOX, bad_formats, box, good_formats
from tests.photos.making import encoded, scene, turned


@pytest.mark.parametrize("form", ["AVIF", "HEIF", "JXL"])
def test_what_phones_write_comes_back_as_it_was(tmp_path, form):
    (tmp_path / "a").write_bytes(encoded(form, Image.fromarray(scene(96, 128)), quality=95))
    photo = read(tmp_path / "a")
    assert photo.format == form
    # lossy at high quality: a few levels
    assert np.abs(photo.pixels.astype(int) - scene(96, 128)).mean() < 3


def test_a_gif_gives_its_first_frame(tmp_path):
    palette = Image.fromarray(scene()).quantize(32)
    (tmp_path / "a.gif").write_bytes(
        encoded("GIF", palette, save_all=True, append_images=[Image.new("P", palette.size)])
    )
    photo = read(tmp_path / "a.gif")
    assert np.array_equal(photo.pixels, np.array(palette.convert("RGB")))
    assert any("first of 2 frames" in note for note in photo.notes)


@pytest.mark.parametrize("form", ["AVIF", "HEIF"])
@pytest.mark.parametrize(("turn", "quarter"), [(3, 2), (6, 1), (8, -1)])
def test_turned_photographs_of_phones_come_upright_once(tmp_path, form, turn, quarter):
    upright = scene(64, 96)
    stored = Image.fromarray(np.rot90(upright, quarter).copy())
    (tmp_path / "a").write_bytes(encoded(form, stored, exif=turned(turn), quality=95))
    found = read(tmp_path / "a").pixels
    assert found.shape == upright.shape
    assert np.abs(found.astype(int) - upright).mean() < 3


def test_jpeg_xl_is_turned_by_its_codestream_alone(tmp_path):
    # EXIF beside the codestream has no say in it (ISO/IEC 18181-2)
    (tmp_path / "a.jxl").write_bytes(encoded("JXL", lossless=True, exif=turned(6)))
    assert np.array_equal(read(tmp_path / "a.jxl").pixels, scene())


@pytest.mark.parametrize("size", [(40, 56), (8, 8), (256, 256), (257, 100), (1, 700), (600, 1600), (90, 160)])
def test_the_header_of_jpeg_xl_gives_the_size_before_anything_is_decoded(size):
    content = encoded("JXL", Image.fromarray(scene(*size)), effort=1)
    assert jxl_size(content) == (size[1], size[0])
    assert jxl_size(JXL_BOX + box(b"jxlp", bytes(4) + content)) == (size[1], size[0])


@pytest.mark.parametrize(("form", "module", "extra"), [("HEIF", "pillow_heif", "heic"), ("JXL", "pillow_jxl", "jxl")])
def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch, form, module, extra):
    from codeprior.photos import formats

    formats._add_heic.cache_clear()
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / "a.jpg").write_bytes(encoded(form))
    with pytest.raises(PhotoError, match=rf"pip install 'codeprior\[{extra}\]'"):
        read(tmp_path / "a.jpg")


def test_a_pillow_without_avif_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "check", lambda name: False)
    (tmp_path / "a.avif").write_bytes(encoded("AVIF"))
    with pytest.raises(PhotoError, match="which this Pillow was built without"):
        read(tmp_path / "a.avif")


def test_a_folder_passes_over_no_picture(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for number, case in enumerate([*good_formats(), *bad_formats()]):
        case.make(folder / f"{number:03}.dat")  # no suffix tells anything
    (folder / "desktop.ini").write_text("[.ShellClassInfo]\n")
    (folder / "empty.HEIC").write_bytes(b"")
    found, ignored = jobs([str(folder)], tmp_path / "out")
    names = {job.source.name for job in found}
    assert "empty.HEIC" in names and "desktop.ini" not in names
    for path in folder.glob("*.dat"):
        assert (path.name in names) == kind(path.read_bytes()).picture
    assert ignored == sum(not kind(path.read_bytes()).picture for path in folder.iterdir() if path.suffix != ".HEIC")

"""Every promise of the reader and the writer, on a corpus made here: read whole, or refused with a reason."""

import os
import resource
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image, ImageCms

from codeprior.files import sweep, temporary_name
from codeprior.photos import PhotoError, read, write
from codeprior.photos.metadata import Metadata
from tests.photos.corpus import bad, encoded, good, png, scene, tiff
from tests.photos.corpus_formats import bad_formats, good_formats

_GOOD, _BAD = good() + good_formats(), bad() + bad_formats()


def test_the_corpus_is_large_enough():
    assert len(_GOOD) + len(_BAD) >= 240
    assert len({case.name for case in _GOOD}) == len(_GOOD)
    assert len({case.name for case in _BAD}) == len(_BAD)


@pytest.mark.parametrize("case", _GOOD, ids=lambda case: repr(case.name)[:60])
def test_awkward_pictures_are_read(tmp_path, case):
    path = tmp_path / case.name
    case.make(path)
    photo = read(path)
    assert photo.pixels.dtype == np.uint8
    assert photo.pixels.ndim == 3
    assert photo.pixels.shape[2] == 3
    assert photo.pixels.flags.writeable


@pytest.mark.parametrize("case", _BAD, ids=lambda case: repr(case.name)[:60])
def test_bad_files_are_refused_with_path_and_reason(tmp_path, case):
    path = tmp_path / case.name
    case.make(path)
    started = time.monotonic()
    with pytest.raises(PhotoError) as caught:
        read(path)
    assert time.monotonic() - started < 10
    assert case.refused in caught.value.reason
    assert str(caught.value) == f"{path}: {caught.value.reason}"
    assert str(path) not in caught.value.reason


def test_a_name_that_no_file_can_have_is_an_error_of_that_file(tmp_path):
    for name in ("a\0b.jpg", "x" * 5000):
        with pytest.raises(PhotoError, match="cannot be opened"):
            read(tmp_path / name)


@pytest.mark.parametrize("turn", range(1, 9))
def test_photographs_are_turned_upright(tmp_path, turn):
    upright = scene(24, 40)
    methods = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # orientation -> the transposition that a camera applied
    stored = Image.fromarray(upright)
    undo = {2: Image.FLIP_LEFT_RIGHT, 3: Image.ROTATE_180, 4: Image.FLIP_TOP_BOTTOM, 5: Image.TRANSPOSE,
            6: Image.ROTATE_90, 7: Image.TRANSVERSE, 8: Image.ROTATE_270}  # fmt: skip
    if turn in methods:
        stored = stored.transpose(undo[turn])
    exif = Image.Exif()
    exif[274] = turn
    stored.save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read(tmp_path / "a.png").pixels, upright)


def test_sixteen_bit_grey_is_divided_by_257(tmp_path):
    levels = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    Image.fromarray(levels).save(tmp_path / "a.png")
    photo = read(tmp_path / "a.png")
    assert np.array_equal(photo.pixels[..., 0], np.arange(256).reshape(16, 16))
    assert any("257" in note for note in photo.notes)


def test_alpha_is_laid_over_white_or_kept(tmp_path):
    colours = scene()
    image = Image.fromarray(np.dstack([colours, np.full(colours.shape[:2], 64, np.uint8)]))
    image.save(tmp_path / "a.png")
    flat = read(tmp_path / "a.png").pixels.astype(float)
    assert np.abs(flat - (colours * (64 / 255) + 255 * (191 / 255))).max() <= 1  # rounding of the blend
    kept = read(tmp_path / "a.png", keep_alpha=True)
    assert np.array_equal(kept.pixels, colours)
    assert (kept.alpha == 64).all()
    write(tmp_path / "b.png", kept.pixels, alpha=kept.alpha)
    assert np.array_equal(np.array(Image.open(tmp_path / "b.png")), np.array(image))


def test_cmyk_white_is_white(tmp_path):
    Image.new("CMYK", (8, 8), (0, 0, 0, 0)).save(tmp_path / "a.tif")
    assert (read(tmp_path / "a.tif").pixels == 255).all()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_an_rgb_profile_is_kept_through_reading_and_writing(tmp_path, suffix):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    (tmp_path / "a.png").write_bytes(encoded("PNG", icc_profile=profile))
    photo = read(tmp_path / "a.png")
    assert photo.profile == profile
    write(tmp_path / f"b{suffix}", photo.pixels, profile=photo.profile)
    assert read(tmp_path / f"b{suffix}").profile == profile


def test_a_grey_profile_does_not_follow_the_picture_into_rgb(tmp_path):
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[16:20] = b"GRAY"
    (tmp_path / "a.png").write_bytes(encoded("PNG", Image.fromarray(scene()[..., 0]), icc_profile=bytes(profile)))
    assert read(tmp_path / "a.png").profile is None


@settings(max_examples=25, deadline=None)
@given(
    pixels=st.tuples(st.integers(1, 20), st.integers(1, 20)).flatmap(lambda size: arrays(np.uint8, (*size, 3))),
    suffix=st.sampled_from([".png", ".webp", ".bmp", ".tif", ".TIFF"]),
)
def test_lossless_formats_give_back_every_pixel(tmp_path_factory, pixels, suffix):
    path = tmp_path_factory.mktemp("written") / f"a{suffix}"
    write(path, pixels)
    assert np.array_equal(read(path).pixels, pixels)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (40, 31)])
def test_png_files_keep_transparency_profile_and_resolution(tmp_path, shape):
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 4), dtype=np.uint8)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    write(
        tmp_path / "a.png",
        pixels[..., :3],
        alpha=pixels[..., 3],
        profile=profile,
        metadata=Metadata(resolution=(300, 300)),
    )
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "RGBA" and np.array_equal(np.asarray(image), pixels)
        assert image.info["icc_profile"] == profile
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_photographs_become_no_larger_png_files_than_pillows_fastest(tmp_path):
    for name in ("astronaut", "coffee"):
        pixels = getattr(pytest.importorskip("skimage.data"), name)()
        write(tmp_path / f"{name}.png", pixels)
        fastest = encoded("PNG", Image.fromarray(pixels), compress_level=1)
        assert (tmp_path / f"{name}.png").stat().st_size < 1.05 * len(fastest)


def test_what_exists_is_kept_unless_asked(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"mine")
    with pytest.raises(PhotoError, match="exists already and is kept"):
        write(path, scene())
    assert path.read_bytes() == b"mine"
    write(path, scene(), overwrite=True)
    assert np.array_equal(read(path).pixels, scene())
    dangling = tmp_path / "b.png"
    dangling.symlink_to(tmp_path / "elsewhere.png")
    with pytest.raises(PhotoError, match="exists already"):
        write(dangling, scene())
    assert not (tmp_path / "elsewhere.png").exists()


def test_a_disk_that_refuses_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(PhotoError, match="No space left on device"):
        write(tmp_path / "a.png", scene())
    assert not list(tmp_path.iterdir())


def test_disks_without_hard_links_still_keep_existing_files(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError(1, "no links here")))
    write(tmp_path / "a.png", scene())
    assert np.array_equal(read(tmp_path / "a.png").pixels, scene())
    with pytest.raises(PhotoError, match="exists already"):
        write(tmp_path / "a.png", scene())
    assert len(list(tmp_path.iterdir())) == 1


def test_results_are_readable_by_others(tmp_path):
    write(tmp_path / "a.png", scene())
    assert stat.S_IMODE((tmp_path / "a.png").stat().st_mode) == 0o644


def test_unusable_names_and_formats_are_said(tmp_path):
    with pytest.raises(PhotoError, match="choose a name that ends in"):
        write(tmp_path / "a.gif", scene())
    with pytest.raises(PhotoError, match="keeps no transparency"):
        write(tmp_path / "a.jpg", scene(), alpha=scene()[..., 0])
    with pytest.raises(PhotoError, match="cannot be written: No such file"):
        write(tmp_path / "no" / "a.png", scene())


def test_leftovers_of_dead_runs_are_swept_and_those_of_living_ones_stay(tmp_path):
    with subprocess.Popen([sys.executable, "-c", "pass"]) as dead:
        dead.wait()
    _, _, place, own, token = temporary_name().lstrip(".").rsplit("-", 4)
    assert int(own) == os.getpid()
    living = tmp_path / f".codeprior-part-{place}-{os.getppid()}-{token}"
    for path in (
        tmp_path / f".codeprior-part-{place}-{dead.pid}-{token}",
        living,
        tmp_path / ".codeprior-part-odd",
        tmp_path / "a.png",
    ):
        path.write_bytes(b"x")
    assert sweep(tmp_path) == 1
    assert living.exists()
    assert len(list(tmp_path.iterdir())) == 3


_WRITER = """
import sys, numpy as np
from pathlib import Path
from codeprior.photos import write
pixels = np.random.default_rng(0).integers(0, 256, (150, 150, 3), dtype=np.uint8)
print("ready", flush=True)
for number in range(100000):
    write(Path(sys.argv[1]) / f"{number:05}.png", pixels)
"""


def _killed_writers(folder: Path, times: int) -> None:
    rng = np.random.default_rng(7)
    for turn in range(times):
        target = folder / str(turn)
        target.mkdir()
        with subprocess.Popen([sys.executable, "-c", _WRITER, str(target)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout.readline() == b"ready\n"
            time.sleep(float(rng.uniform(0.0, 0.15)))
            writer.send_signal(signal.SIGKILL)
        expected = np.random.default_rng(0).integers(0, 256, (150, 150, 3), dtype=np.uint8)
        for path in target.glob("*.png"):
            assert np.array_equal(read(path).pixels, expected)
        left = sum(path.name.startswith(".codeprior-part-") for path in target.iterdir())
        assert sweep(target) == left
        assert not any(path.name.startswith(".") for path in target.iterdir())


def test_killed_writers_leave_whole_pictures_or_none(tmp_path):
    _killed_writers(tmp_path, 2)


@pytest.mark.slow
def test_fifty_killed_writers_leave_whole_pictures_or_none(tmp_path):
    _killed_writers(tmp_path, 50)


def _mutants(count: int, seed: int) -> int:
    rng = np.random.default_rng(seed)
    sources = [encoded("JPEG"), encoded("JPEG", progressive=True), encoded("PNG"), encoded("WEBP"), encoded("BMP"),
               encoded("WEBP", lossless=True), encoded("TIFF", compression="tiff_lzw"), encoded("TIFF"),
               encoded("PNG", Image.fromarray(scene()).quantize(16)), tiff(8, 6, body=bytes(range(48)))]  # fmt: skip
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"mutant-{os.getpid()}"
    refused = 0
    for number in range(count):
        content = bytearray(sources[number % len(sources)])
        for _ in range(int(rng.integers(1, 6))):
            place, action = int(rng.integers(len(content))), rng.integers(4)
            if action == 0:
                content[place] ^= 1 << int(rng.integers(8))
            elif action == 1:
                content[place : place + int(rng.integers(1, 9))] = rng.bytes(int(rng.integers(0, 9)))
            elif action == 2:
                content[place : place + 4] = b"\xff" * 4
            else:
                del content[max(place, 12) :]
            content = content or bytearray(1)
        path.write_bytes(content)
        started = time.process_time()
        try:
            pixels = read(path).pixels
            assert pixels.dtype == np.uint8
            assert pixels.size <= 3 * 64_000_000
        except PhotoError:
            refused += 1
        assert time.process_time() - started < 10
    path.unlink()
    return refused


def test_mutated_pictures_are_read_or_refused():
    assert _mutants(800, seed=1) > 150


@pytest.mark.slow
def test_a_hundred_thousand_mutated_pictures_are_read_or_refused():
    assert _mutants(100_000, seed=2) > 20_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 4 * 2**20  # KiB


def test_a_chunk_that_lies_about_its_length_is_truncated(tmp_path):
    whole = png((b"IHDR", b"\0" * 13))
    (tmp_path / "a.png").write_bytes(whole[:8] + b"\xff\xff\xff\xff" + whole[12:])
    with pytest.raises(PhotoError, match="truncated"):
        read(tmp_path / "a.png")

"""Hostile and broken videos end in one sentence; what can be read of them is."""

import contextlib

import numpy as np
import pytest

from codeprior.photos.video import reading
from codeprior.photos.video.reading import Video, VideoError
from tests.photos.video.making import write_clip

pytest.importorskip("av", reason="PyAV is not installed: pip install 'codeprior[video]'")
FRAMES = [np.full((48, 64, 3), 10 * at, np.uint8) for at in range(12)]


def _read(path) -> int:
    with Video(path) as video:
        return sum(1 for _ in video.frames())


def test_frames_come_in_order_with_what_the_file_says(tmp_path):
    write_clip(tmp_path / "a.mp4", FRAMES, times=[0, 10, 15, 100, 101, 102, 200, 300, 400, 500, 600, 700])
    with Video(tmp_path / "a.mp4") as video:
        found = list(video.frames())
        assert (video.facts.width, video.facts.height, video.facts.frames) == (64, 48, 12)
        seconds = [float(frame.time * video.facts.time_base) for frame in found]
    assert np.allclose(seconds, [0, 0.01, 0.015, 0.1, 0.101, 0.102, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    assert [round(float(frame.pixels.mean()) / 10) for frame in found] == list(range(12))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.mp4", b""),
        ("text.mp4", b"no video at all " * 500),
        ("list.mp4", b"#EXTM3U\n#EXTINF:10,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"),
        ("concat.mp4", b"ffconcat version 1.0\nfile /etc/hostname\n"),
        ("box.mp4", b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2" + b"\xff" * 4000),
    ],
)
def test_what_is_no_video_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(VideoError, match="is no video that is read here|holds no moving pictures"):
        _read(tmp_path / name)


def test_folders_pipes_and_missing_files_are_refused_at_once(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(VideoError, match="not a regular file"):
        _read(tmp_path / "pipe.mp4")
    with pytest.raises(VideoError, match="not a regular file"):
        _read(tmp_path)
    with pytest.raises(VideoError, match="does not exist"):
        _read(tmp_path / "none.mp4")


def test_sound_alone_is_no_video(tmp_path):
    import av

    with av.open(str(tmp_path / "a.mp4"), "w") as out:
        tone = out.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts = 16000, 0
        out.mux(tone.encode(frame))
        out.mux(tone.encode(None))
    with pytest.raises(VideoError, match="holds no moving pictures"):
        _read(tmp_path / "a.mp4")


def test_too_large_and_too_many_are_refused(tmp_path, monkeypatch):
    write_clip(tmp_path / "a.mkv", FRAMES)
    monkeypatch.setattr(reading, "MAX_FRAMES", 5)
    with pytest.raises(VideoError, match="has more than the 5 frames accepted"):
        _read(tmp_path / "a.mkv")
    monkeypatch.setattr(reading, "MAX_SIDE", 50)
    with pytest.raises(VideoError, match="has 64×48 pixels a frame, more than the 50 a side accepted"):
        _read(tmp_path / "a.mkv")


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".avi"])
def test_a_clip_cut_short_or_damaged_gives_frames_or_a_reason_and_never_hangs(tmp_path, suffix):
    codec = "mpeg4" if suffix == ".avi" else "libx264"
    write_clip(tmp_path / f"a{suffix}", FRAMES, codec=codec)
    whole, rng = (tmp_path / f"a{suffix}").read_bytes(), np.random.default_rng(0)
    path, ends = tmp_path / f"b{suffix}", []
    for trial in range(12):
        content = bytearray(whole[: len(whole) * trial // 12] if trial % 2 else whole)
        for at in rng.integers(0, max(1, len(content)), 9 if trial % 2 == 0 else 0):
            if content:
                content[at] = int(rng.integers(256))
        path.write_bytes(content)
        with contextlib.suppress(VideoError):
            ends.append(_read(path))
    assert all(count <= len(FRAMES) * 2 for count in ends)


def _mutants(content: bytes, count: int, seed: int):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        made = bytearray(content)
        for _ in range(int(rng.integers(1, 6))):
            place = int(rng.integers(len(made)))
            match rng.integers(4):
                case 0:
                    made[place] ^= 1 << int(rng.integers(8))
                case 1:
                    made[place : place + 4] = rng.bytes(4)
                case 2:
                    made[place : place + 4] = b"\xff" * 4
                case _:
                    del made[max(place, 64) :]
        yield bytes(made)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_mutated_videos_are_read_or_refused(tmp_path, name):
    write_clip(tmp_path / name, FRAMES, codec="mpeg4" if name == "a.avi" else "libx264")
    refused = 0
    for content in _mutants((tmp_path / name).read_bytes(), 60, seed=1):
        (tmp_path / name).write_bytes(content)
        try:
            _read(tmp_path / name)
        except VideoError:
            refused += 1
    assert refused > 5


@pytest.mark.parametrize("error", ["PatchWelcomeError", "ExternalError", "EOFError", "UnknownError"])
def test_errors_of_ffmpeg_that_are_of_no_common_kind_are_one_kind_here(tmp_path, error):
    import av

    with (
        pytest.raises(VideoError, match="is odd: not now"),
        reading.one_error(av, tmp_path, "is odd"),
    ):
        raise getattr(av.error, error)(1, "not now")


def test_a_word_that_new_versions_of_pyav_refuse_is_not_given_to_them():
    """PyAV 19, which a fresh environment of Python 3.12 installs, refuses `metadata_errors`."""
    assert reading._lenient("18.1.0") == {"metadata_errors": "replace"}
    assert reading._lenient("19.0.2") == {} == reading._lenient("20.0.0rc1")

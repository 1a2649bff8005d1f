"""Videos come back with their sound and times, steadier than frame by frame, whole after a kill, never over another."""

import json
import shutil
from fractions import Fraction

import numpy as np
import pytest

from codeprior.photos.faces import detector
from codeprior.photos.restoration import Choices, restore_photo
from codeprior.photos.video import FrameRestorer, Steadiness, VideoError, restore_video
from codeprior.photos.video import restoration as module
from tests.photos.video.making import SIDE, Brighter, Middle, moving, read_clip, read_sound, tensor, write_clip

pytest.importorskip("av", reason="PyAV is not installed: pip install 'codeprior[video]'")
CHOICES = Choices(colour=False, tint=False)


@pytest.fixture(scope="module")
def frames() -> list:
    return moving(9)[0]


def _restored(source, target, **options):
    return restore_video(source, target, Brighter(), detector=Middle(), choices=CHOICES, **options)


def test_sound_and_uneven_times_are_those_of_the_source(tmp_path, frames):
    times = [0, 40, 90, 91, 300, 333, 340, 500, 1000]
    write_clip(tmp_path / "a.mkv", frames, times=times, sound=True)
    for name in ("b.mp4", "b.mkv", "b.mov"):
        report = _restored(tmp_path / "a.mkv", tmp_path / name)
        assert (report.frames, report.restored, report.faces, report.cuts) == (9, 9, 1, 0)
        pixels, shown = read_clip(tmp_path / name)
        assert shown == [Fraction(time, 1000) for time in times]
        before, heard = read_sound(tmp_path / "a.mkv"), read_sound(tmp_path / name)
        assert [packet for _, packet in heard] == [packet for _, packet in before]
        # some containers begin sound at its first sample, others a little before it
        shifts = {after - first for (after, _), (first, _) in zip(heard, before, strict=True)}
        assert max(shifts) - min(shifts) <= Fraction(1, 500) and abs(min(shifts)) <= Fraction(1, 500)
    middle = slice(SIDE // 2 - 10, SIDE // 2 + 10)
    for after, first in zip(pixels, frames, strict=True):
        assert np.abs(after[:16].mean(-1) - first[:16].mean(-1)).mean() < 4  # x264's loss; nothing is restored there
        assert (after[middle, middle].astype(int) - first[middle, middle]).mean() > 25


def test_a_run_that_was_killed_goes_on_and_gives_the_same_frames(tmp_path, frames):
    write_clip(tmp_path / "a.mp4", frames, sound=True)
    whole = _restored(tmp_path / "a.mp4", tmp_path / "whole.mp4", segment=2)
    assert not list(tmp_path.glob(".whole*"))

    class Killed(BaseException):
        pass

    def die(done: int, total: int) -> None:
        assert total == 9
        if done == 6:
            raise Killed

    with pytest.raises(Killed):
        _restored(tmp_path / "a.mp4", tmp_path / "b.mp4", segment=2, progress=die)
    assert not (tmp_path / "b.mp4").exists()
    (folder,) = tmp_path.glob(".b.mp4*")
    assert sorted(path.suffix for path in folder.iterdir()) == [".json", ".nut", ".nut", ".safetensors", ".safetensors"]
    with pytest.raises(VideoError, match="an earlier run was broken off; --resume goes on with it, --overwrite begins"):
        _restored(tmp_path / "a.mp4", tmp_path / "b.mp4", segment=2)
    with pytest.raises(VideoError, match="an earlier run was broken off that had other settings"):
        _restored(tmp_path / "a.mp4", tmp_path / "b.mp4", segment=2, resume=True, described="other weights")
    asked = Brighter()
    report = restore_video(
        tmp_path / "a.mp4", tmp_path / "b.mp4", asked, detector=Middle(), choices=CHOICES, segment=2, resume=True
    )
    assert report[:5] == (*whole[:4], 4) and asked.faces == 5
    assert not folder.exists()
    ours, times = read_clip(tmp_path / "b.mp4")
    theirs, expected = read_clip(tmp_path / "whole.mp4")
    assert times == expected and all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
    assert read_sound(tmp_path / "b.mp4") == read_sound(tmp_path / "whole.mp4")


def test_a_damaged_state_costs_its_segment_and_no_more(tmp_path, frames):
    write_clip(tmp_path / "a.mp4", frames)

    def die(done: int, total: int) -> None:
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _restored(tmp_path / "a.mp4", tmp_path / "b.mp4", segment=2, progress=die)
    (folder,) = tmp_path.glob(".b.mp4*")
    last = max(folder.glob("*.safetensors"))
    last.write_bytes(last.read_bytes()[:50])
    report = _restored(tmp_path / "a.mp4", tmp_path / "b.mp4", segment=2, resume=True)
    assert report.frames == 9 and report.before == 4
    assert len(read_clip(tmp_path / "b.mp4")[0]) == 9


def test_nothing_is_overwritten_unless_that_is_asked_for(tmp_path, frames):
    write_clip(tmp_path / "a.mp4", frames[:2])
    (tmp_path / "b.mp4").write_bytes(b"mine")
    with pytest.raises(VideoError, match="exists already and is kept"):
        _restored(tmp_path / "a.mp4", tmp_path / "b.mp4")
    assert (tmp_path / "b.mp4").read_bytes() == b"mine"
    with pytest.raises(VideoError, match="is the input, which is kept"):
        _restored(tmp_path / "a.mp4", tmp_path / "a.mp4", overwrite=True)
    with pytest.raises(VideoError, match="videos are written as .mp4, .m4v, .mov, .mkv"):
        _restored(tmp_path / "a.mp4", tmp_path / "b.gif")
    _restored(tmp_path / "a.mp4", tmp_path / "b.mp4", overwrite=True)
    assert len(read_clip(tmp_path / "b.mp4")[0]) == 2


def test_no_more_frames_are_read_than_are_needed_soon(tmp_path, monkeypatch):
    picture = np.full((SIDE, SIDE, 3), 90, np.uint8)
    write_clip(tmp_path / "a.mp4", [picture] * 60)
    read, most, inner = [0], [0], module.Video.frames

    def counted(self):
        for frame in inner(self):
            read[0] += 1
            yield frame

    monkeypatch.setattr(module.Video, "frames", counted)
    _restored(
        tmp_path / "a.mp4", tmp_path / "b.mp4",
        progress=lambda done, _: most.__setitem__(0, max(most[0], read[0] - done)),
    )  # fmt: skip
    assert read[0] == 60 and most[0] <= 7


def test_odd_sizes_and_quarter_turns_come_out_upright(tmp_path, frames):
    odd = [np.ascontiguousarray(frame[:239, :201]) for frame in frames[:3]]
    write_clip(tmp_path / "odd.mkv", odd, pix_fmt="yuv444p")
    _restored(tmp_path / "odd.mkv", tmp_path / "odd.mp4")
    assert read_clip(tmp_path / "odd.mp4")[0][0].shape == (239, 201, 3)


@pytest.mark.parametrize("still", [False, True])
def test_a_clip_is_steadier_than_frame_by_frame_and_as_sharp(still):
    from codeprior.metrics import flicker
    from codeprior.recipes.daefr import load

    made, motion = moving(5, still=still)
    # without grain, which a video gets only where it is asked for: it is change, and looks like sharpness
    find, restorer, choices = detector(), load("small"), Choices(always=True, grain=0)
    alone = [restore_photo(frame, restorer, detector=find, choices=choices).pixels for frame in made]
    video = FrameRestorer(restorer, find, choices=choices)
    together = [video(frame)[0] for frame in made]
    (face,) = find(made[0])
    left, top, right, bottom = face.box.astype(int)
    region = np.zeros((SIDE, SIDE), bool)
    region[top:bottom, left:right] = True
    region = tensor([region[..., None].repeat(3, 2) * 255])[0, 0] > 0.5

    def measured(frames: list) -> tuple[float, float]:
        pictures = tensor(frames)
        steps = (pictures[..., 1:] - pictures[..., :-1]).abs().mean(1)[:, region[:, 1:]]
        return float(flicker(pictures, motion, region=region).mean()), float(steps[-1].mean())

    (shaken, sharp), (steady, kept) = measured(alone), measured(together)
    assert steady < 0.6 * shaken  # seen on one processor: 0.31 of it for the moving clip, 0.22 for the still one
    assert kept > 0.95 * sharp
    # what steadies is the memory: with the share of each frame at 1 only the points are held
    loose = FrameRestorer(restorer, find, choices=choices, steadiness=Steadiness(share=1.0))
    assert steady < measured([loose(frame)[0] for frame in made])[0]


def test_a_face_that_comes_and_goes_is_followed_once_and_a_cut_begins_anew(tmp_path, frames):
    other = [255 - frame for frame in frames[:4]]
    write_clip(tmp_path / "a.mp4", [*frames[:4], *other])
    report = _restored(tmp_path / "a.mp4", tmp_path / "b.mp4")
    assert (report.cuts, report.faces) == (1, 2)


def test_the_command_restores_a_clip_and_says_what_it_did(tmp_path, frames, capsys):
    from codeprior.__main__ import main

    write_clip(tmp_path / "a.mp4", frames[:3], sound=True)
    given = ["restore", str(tmp_path / "a.mp4"), str(tmp_path / "out.mp4"), "--report", str(tmp_path / "r.jsonl")]
    assert main([*given, "--always"]) == 0
    told = capsys.readouterr().err
    assert "3 of 3 frames restored; 1 faces followed, 0 cuts" in told
    line = json.loads((tmp_path / "r.jsonl").read_text())
    assert (line["status"], line["frames"], line["restored"]) == ("restored", 3, 3)
    assert main([*given[:3], "--quiet"]) == 3
    assert "exists already and is kept" in capsys.readouterr().err
    assert main([*given[:3], "--compare"]) == 2
    assert "--compare is for photographs" in capsys.readouterr().err
    assert main(["restore", str(tmp_path / "none.mp4"), str(tmp_path / "x.mp4")]) == 3
    assert "none.mp4: does not exist" in capsys.readouterr().err
    assert main(["restore", str(tmp_path / "a.mp4"), str(tmp_path / "out.avi")]) == 2
    assert "videos are written as" in capsys.readouterr().err
    shutil.copy(tmp_path / "a.mp4", tmp_path / "c.mp4")
    assert main(["restore", str(tmp_path / "c.mp4"), str(tmp_path), "--overwrite"]) == 3
    assert "is the input, which is kept" in capsys.readouterr().err


def test_what_a_sender_put_beside_the_target_is_not_written_through_and_not_removed(tmp_path, frames):
    write_clip(tmp_path / "a.mp4", frames[:3])
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "000000.nut").write_text("mine")
    (tmp_path / ".b.mp4.codeprior-segments").symlink_to(tmp_path / "elsewhere")
    for more in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(VideoError, match="beside it is a link, and is not written through"):
            _restored(tmp_path / "a.mp4", tmp_path / "b.mp4", **more)
    assert [path.read_text() for path in (tmp_path / "elsewhere").iterdir()] == ["mine"]
    folder = tmp_path / ".c.mp4.codeprior-segments"
    folder.mkdir()
    (folder / "notes.json").write_text("mine")
    _restored(tmp_path / "a.mp4", tmp_path / "c.mp4", overwrite=True)
    assert [path.name for path in folder.iterdir()] == ["notes.json"]


@pytest.mark.parametrize("plain", ["[]", "{}", '{"tracker": 1, "counts": {"frames": 1, "restored": "x"}}', "[" * 99999])
def test_a_state_that_somebody_else_wrote_is_refused_or_passed_over(tmp_path, frames, plain):
    from safetensors.numpy import save

    write_clip(tmp_path / "a.mp4", frames[:3])
    folder = tmp_path / ".b.mp4.codeprior-segments"
    folder.mkdir()
    settings = module._settings(tmp_path / "a.mp4", CHOICES, Steadiness(), "", 2)
    (folder / "settings.json").write_text(settings)
    (folder / "000000.nut").write_bytes(b"")
    (folder / "000000.safetensors").write_bytes(save({"a": np.zeros(1)}, metadata={"plain": plain}))
    if plain.startswith("[["):  # it cannot be read at all, so that the run begins anew
        assert _restored(tmp_path / "a.mp4", tmp_path / "b.mp4", segment=2, resume=True).before == 0
        return
    with pytest.raises(VideoError, match="what an earlier run left is damaged .*; --overwrite begins anew"):
        _restored(tmp_path / "a.mp4", tmp_path / "b.mp4", segment=2, resume=True)

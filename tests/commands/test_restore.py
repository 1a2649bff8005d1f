"""`codeprior restore` as a user calls it, with a small untrained model: each input a result or a reason."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from codeprior.__main__ import main
from codeprior.commands import _restoring
from codeprior.photos import read
from codeprior.photos.faces import template
from tests.photos.corpus import bad, encoded, good, scene


@pytest.fixture
def call(weights, estimated):
    def run(*words: object) -> int:
        return main(["restore", *map(str, words), "--weights", str(weights), "--quiet"])

    return run


def _lines(report: Path) -> dict[str, dict]:
    return {Path(line["input"]).name: line for line in map(json.loads, report.read_text().splitlines())}


@pytest.fixture
def astronaut(tmp_path) -> Path:
    Image.fromarray(pytest.importorskip("skimage.data").astronaut()).save(tmp_path / "astronaut.png")
    return tmp_path / "astronaut.png"


def test_every_input_of_the_corpus_gets_a_result_or_a_reason(tmp_path, call, capsys):
    """All awkward and all bad files in one folder: those that can be read are restored, the run goes on after each."""
    folder, out, report = tmp_path / "in", tmp_path / "out", tmp_path / "report.jsonl"
    folder.mkdir()
    # a number before each name: two that differ in their suffix alone would have one result
    refused = {f"{index:03} {case.name}": case.refused for index, case in enumerate([*good(), *bad()])}
    for name, case in zip(refused, [*good(), *bad()], strict=True):
        case.make(folder / name)
    assert call(folder, out, "--aligned", "--report", report, "--format", "png") == 3
    lines = _lines(report)
    assert len(lines) >= 120
    restored = 0
    for name, line in lines.items():
        reason = refused[name]
        if line["status"] == "restored":
            assert reason is None
            assert Image.open(line["output"]).size == (64, 64)
            restored += 1
        elif reason is None:  # a picture, and no aligned face
            assert "too far from a square" in line["reason"]
        else:
            assert reason in line["reason"]
            assert not Path(line["output"]).exists()
    assert restored >= 75
    # what a folder does not list: other types by name and content, other folders, what is not there
    assert all(reason is not None for name, reason in refused.items() if name not in lines)
    errors = capsys.readouterr().err
    assert "\x1b" not in errors  # a file name does not write to the terminal
    assert f"{restored} restored" in errors


def test_a_second_run_keeps_and_a_resumed_one_skips(tmp_path, call):
    folder, out, report = tmp_path / "in", tmp_path / "out", tmp_path / "report.jsonl"
    (folder / "deep" / "er").mkdir(parents=True)
    for name in ("a.png", "deep/b.jpg", "deep/er/c.webp"):
        Image.fromarray(scene(64, 64)).save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    # one face a batch: others in it move the last bits of the sums
    words = (folder, out, "--aligned", "--report", report, "--batch", "1")
    assert call(*words, "--compare", "--uncertainty") == 0
    assert {str(path.relative_to(out)) for path in out.rglob("*.*")} == {
        f"{stem}{end}"
        for stem, suffix in (("a", ".png"), ("deep/b", ".jpg"), ("deep/er/c", ".webp"))
        for end in (suffix, ".compare.png", ".uncertainty.png")
    }
    before = (out / "a.png").read_bytes()
    written = report.read_bytes()
    assert call(*words) == 2  # the report is kept too
    assert report.read_bytes() == written
    again = tmp_path / "again.jsonl"
    assert call(*words[:3], "--report", again, *words[5:]) == 3
    assert "exists already and is kept" in _lines(again)["a.png"]["reason"]
    assert (out / "a.png").read_bytes() == before
    (out / "a.png").unlink()
    report.write_text(report.read_text() + '{"torn')
    # the sheets of a.png are still there, as after a kill between sheets and result
    assert call(*words, "--resume", "--compare") == 0
    assert (out / "a.png").read_bytes() == before
    last = report.read_text().splitlines()[-3:]
    assert sorted(json.loads(line)["status"] for line in last) == ["restored", "skipped", "skipped"]
    assert call(*words, "--overwrite") == 0


def test_patterns_single_files_and_names_that_clash(tmp_path, call, capsys):
    for name in ("a.png", "b.png", "a.jpg"):
        Image.fromarray(scene(64, 64)).save(tmp_path / name)
    assert call(tmp_path / "*.png", tmp_path / "out", "--aligned") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png"]
    assert call(tmp_path / "a.jpg", tmp_path / "one.webp", "--aligned") == 0
    assert read(tmp_path / "one.webp").format == "WEBP"
    assert call(tmp_path / "a.png", tmp_path / "a.jpg", tmp_path / "both", "--aligned", "--format", "png") == 3
    assert "would be that of" in capsys.readouterr().err
    assert len(list((tmp_path / "both").iterdir())) == 1


def test_a_face_is_found_restored_and_the_rest_untouched(tmp_path, call, astronaut):
    report = tmp_path / "report.jsonl"
    assert call(astronaut, tmp_path / "out.png", "--report", report, "--uncertainty", "--compare") == 0
    (face,) = _lines(report)["astronaut.png"]["faces"]
    assert face["restored"]
    assert face["score"] > 0.9
    assert 0 <= face["uncertainty"] <= 1
    before, after = read(astronaut).pixels.astype(int), read(tmp_path / "out.png").pixels.astype(int)
    left, top, right, bottom = map(int, face["box"])
    changed = np.abs(after - before).max(2) > 0
    assert changed[top:bottom, left:right].mean() > 0.9
    assert not changed[300:].any()
    assert Image.open(tmp_path / "out.uncertainty.png").size == (512, 512)
    assert Image.open(tmp_path / "out.compare.png").size[0] > 2 * 600


def test_strength_zero_gives_the_photograph_back(tmp_path, call, astronaut):
    points = {"astronaut.png": [template(160).tolist()]}  # marked by hand, in the corner
    (tmp_path / "points.json").write_text(json.dumps(points))
    words = (astronaut, tmp_path / "out.png", "--landmarks", tmp_path / "points.json")
    assert call(*words, "--strength", 0) == 0
    before, after = read(astronaut).pixels.astype(int), read(tmp_path / "out.png").pixels.astype(int)
    # the crop is smaller than what it shows, so detail is lost inside the mask, and nothing outside it changes
    assert np.abs(after - before)[160:].max() == 0
    assert np.abs(after - before)[:, 160:].max() == 0
    assert np.abs(after - before).mean() < 1
    assert call(*words, "--strength", 1, "--overwrite", "--match-colour") == 0
    matched = read(tmp_path / "out.png").pixels[60:120, 60:120].astype(float)
    assert call(*words, "--strength", 1, "--overwrite", "--no-match-colour") == 0
    plain = read(tmp_path / "out.png").pixels[60:120, 60:120].astype(float)
    truth = before[60:120, 60:120].mean((0, 1))
    assert np.abs(matched.mean((0, 1)) - truth).max() < np.abs(plain.mean((0, 1)) - truth).max()


def test_which_faces_are_restored(tmp_path, call):
    wide = np.concatenate([scene(200, 200)] * 3, axis=1)
    Image.fromarray(wide).save(tmp_path / "a.png")
    faces = [(template(side) + (shift, 0)).tolist() for side, shift in ((150, 400), (120, 0), (190, 200))]
    (tmp_path / "points.json").write_text(json.dumps({str(tmp_path / "a.png"): faces}))
    report = tmp_path / "report.jsonl"
    for which, expected in (("all", [0, 1, 2]), ("largest", [2]), ("centre", [2]), ("0", [1]), ("2", [0])):
        words = ("--landmarks", tmp_path / "points.json", "--faces", which, "--report", report, "--overwrite")
        assert call(tmp_path / "a.png", tmp_path / "out.png", *words) == 0
        restored = [index for index, face in enumerate(_lines(report)["a.png"]["faces"]) if face["restored"]]
        assert restored == expected
    assert call(tmp_path / "a.png", tmp_path / "out.png", *words[:2], "--faces", "5", "--overwrite") == 3


def test_profile_and_transparency_are_kept(tmp_path, call):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.fromarray(np.dstack([scene(200, 200), np.full((200, 200), 90, np.uint8)]))
    (tmp_path / "a.png").write_bytes(encoded("PNG", image, icc_profile=profile))
    (tmp_path / "points.json").write_text(json.dumps({"a.png": [template(180).tolist()]}))
    words = (tmp_path / "a.png", tmp_path / "out.png", "--landmarks", tmp_path / "points.json", "--keep-alpha")
    assert call(*words) == 0
    done = read(tmp_path / "out.png", keep_alpha=True)
    assert done.profile == profile
    assert (done.alpha == 90).all()


def test_a_photograph_without_a_face_is_an_error_and_writes_nothing(tmp_path, call, capsys):
    Image.fromarray(scene(80, 80)).save(tmp_path / "a.png")
    assert call(tmp_path / "a.png", tmp_path / "b.png") == 3
    assert "a.png: no face was found" in capsys.readouterr().err
    assert not (tmp_path / "b.png").exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["in"], "give at least one input and then the output"),
        (["*.gif", "out"], "matches nothing"),
        (["in", "out.png"], "give a folder"),
        (["in", "out.HEIC"], "out.HEIC names a picture of a format that is read and never written; give .bmp, .jpeg"),
        (["in/a.png", "out.gif"], "out.gif names a picture of a format that is read and never written"),
        (["in", "out", "--recipe", "gfpgan", "--weights", "small"], "gfpgan has no weights in the package; give --"),
        (["in", "in/a.txt"], "is no folder"),
        (["in", "in/a.txt/out"], "a.txt"),
        (["in", "out", "--batch", "0"], "at least 1"),
        (["in", "out", "--strength", "2"], "strength must be in"),
        (["in", "out", "--score", "3"], "score must be in [0, 1], got 3.0"),
        (["in", "out", "--smallest", "-3"], "smallest must be a distance of 0 pixels or more, got -3.0"),
        (["in", "out", "--smallest", "nan"], "smallest must be a distance of 0 pixels or more, got nan"),
        (["in", "out", "--faces", "best"], "faces must be"),
        (["in", "out", "--detector", "haar"], "no detector is named 'haar'"),
        (["in", "out", "--detector", "retinaface"], "needs its weight file"),
        (["in", "out", "--landmarks", "absent.json"], "restore: absent.json: No such file or directory\n"),
        (["in", "out", "--landmarks", "other.json"], "none of its names is an input's, such as b.png"),
        (["in", "out", "--device", "nowhere"], "--device nowhere is no device; give cpu, cuda"),
        (["in", "out", "--device", "meta"], "--device meta is no device; give cpu, cuda"),
        (["in", "out", "--weights", "absent"], "--weights absent: there is no such file; give one that codeprior"),
    ],
)
def test_wrong_calls_end_with_two_and_say_why(tmp_path, weights, capsys, monkeypatch, words, reason):
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    Path("in/a.txt").write_text("x")
    Image.fromarray(scene()).save("in/a.png")
    Path("other.json").write_text(json.dumps({"b.png": [template(180).tolist()]}))
    assert main(["restore", *words, *([] if "--weights" in words else ["--weights", str(weights)])]) == 2
    assert reason in capsys.readouterr().err
    assert not list(Path().glob("out*"))


def test_unknown_commands_end_with_two():
    assert main(["unknown"]) == 2


@pytest.mark.parametrize(("given", "expected"), [(None, "32"), ("7", "7")])
def test_memory_is_bounded_unless_the_user_has_said_how(tmp_path, call, monkeypatch, given, expected):
    name = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
    monkeypatch.setenv(name, given or "")
    if given is None:
        monkeypatch.delenv(name)
    (tmp_path / "in.png").write_bytes(b"no picture")
    assert call(tmp_path / "in.png", tmp_path / "out") == 3
    assert os.environ[name] == expected


@pytest.mark.parametrize("given", [None, "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_freed_memory_is_kept_unless_the_user_has_said_how(monkeypatch, given):
    for name in [name for name in os.environ if name.startswith("MALLOC_") or name == "GLIBC_TUNABLES"]:
        monkeypatch.delenv(name)
    if given:
        monkeypatch.setenv(given, "1")
    kept: list[bool] = []
    monkeypatch.setattr(_restoring, "keep_freed_memory", lambda: kept.append(True))
    _restoring.bound_memory()
    assert kept == ([] if given else [True])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_freed_memory_is_taken_again_without_asking_the_system():
    # 32 MiB are taken, filled and freed again and again; a page that is taken anew is a minor fault
    program = """
import resource
from codeprior.commands._restoring import keep_freed_memory
import torch
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        several = [torch.ones(2**21) for _ in range(4)]
        del several
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
torch.ones(1)
first = faults()
assert keep_freed_memory()
faults()
print(first, faults())
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    before, after = map(int, run.stdout.split())
    assert after * 10 < before, run.stdout

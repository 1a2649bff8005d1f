"""`codeprior inspect` as a user calls it."""

import json

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from codeprior.__main__ import main
from codeprior.commands._inspecting import in_words
from tests.photos.corpus import scene


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "astronaut.png"
    Image.fromarray(astronaut()).save(path)
    return path


def test_a_photograph_is_described_in_words(photo, capsys):
    assert main(["inspect", str(photo)]) == 0
    told = capsys.readouterr()
    assert told.out.splitlines()[0] == str(photo)
    assert "face 0: " in told.out and "cycles per pixel" in told.out and "as much as a sharp face of" in told.out
    assert "codeprior inspect: 1 inspected, 0 failed" in told.err


def test_the_report_and_json_say_the_same_and_hold_every_figure(photo, tmp_path, capsys):
    report = tmp_path / "out" / "report.jsonl"
    assert main(["inspect", str(photo), "--json", "--report", str(report)]) == 0
    (line,) = report.read_text().splitlines()
    assert json.loads(capsys.readouterr().out) == json.loads(line)
    entry = json.loads(line)
    assert (entry["input"], entry["status"], entry["reason"]) == (str(photo), "inspected", None)
    (face,) = entry["faces"]
    assert {"box", "points", "score", "size", "detail", "low", "high"} <= set(face)
    for name in ("blur", "reduction", "noise", "quality", "limit"):
        assert min(face["low"][name], face["high"][name]) <= face[name] <= max(face["low"][name], face["high"][name])
    assert face["detail"] == round(2 * face["limit"] * min(face["size"]))
    left, top, right, bottom = face["box"]
    assert face["size"][0] > right - left and face["size"][1] > bottom - top


def test_a_blurred_photograph_holds_less(photo, tmp_path, capsys):
    import cv2

    Image.fromarray(cv2.GaussianBlur(astronaut(), (0, 0), 3)).save(tmp_path / "blurred.png")
    assert main(["inspect", str(photo), str(tmp_path / "blurred.png"), "--json"]) == 0
    sharp, blurred = (json.loads(line)["faces"][0] for line in capsys.readouterr().out.splitlines())
    assert blurred["limit"] < 0.6 * sharp["limit"] and blurred["blur"] > sharp["blur"]


def test_an_aligned_face_is_taken_whole(photo, tmp_path, capsys):
    crop = tmp_path / "face.png"
    Image.fromarray(astronaut()[60:200, 160:300]).save(crop)
    assert main(["inspect", str(crop), "--aligned", "--json"]) == 0
    (face,) = json.loads(capsys.readouterr().out)["faces"]
    assert face["size"] == [140, 140] and "box" not in face


def test_a_plot_shows_the_face_its_spectrum_and_its_limit(photo, tmp_path, capsys):
    target = tmp_path / "plots" / "plot.png"
    assert main(["inspect", str(photo), "--plot", str(target)]) == 0
    picture = np.asarray(Image.open(target))
    assert picture.shape[2] == 3 and picture.shape[1] > 900
    assert (picture == (200, 80, 0)).all(-1).sum() > 200  # the line of the limit
    assert (picture[24:296, 16:272].std((0, 1)) > 20).all()  # the face
    before = target.read_bytes()
    assert main(["inspect", str(photo), "--plot", str(target)]) == 2
    assert "exists already and is kept; give --overwrite to replace it" in capsys.readouterr().err
    assert target.read_bytes() == before
    assert main(["inspect", str(photo), "--plot", str(target), "--overwrite"]) == 0


def test_each_failure_is_told_and_the_rest_goes_on(photo, tmp_path, capsys):
    Image.fromarray(scene(200, 200)).save(tmp_path / "empty.png")
    (tmp_path / "cut.png").write_bytes(photo.read_bytes()[:500])
    (tmp_path / "notes.txt").write_text("no picture")
    report = tmp_path / "report.jsonl"
    assert main(["inspect", str(tmp_path), "--report", str(report)]) == 3
    told = capsys.readouterr().err
    assert "empty.png: no face was found" in told and "cut.png: " in told
    assert "1 inspected, 2 failed, " in told
    lines = {json.loads(line)["input"].rsplit("/", 1)[1]: json.loads(line) for line in report.read_text().splitlines()}
    assert lines["empty.png"]["status"] == "failed"
    assert lines["empty.png"]["reason"].startswith("no face was found; mark it by hand (landmarks)")
    assert lines["astronaut.png"]["status"] == "inspected"


def test_faces_too_small_to_judge_are_told(tmp_path, capsys):
    small = tmp_path / "small.png"
    Image.fromarray(scene(20, 20)).save(small)
    assert main(["inspect", str(small), "--aligned"]) == 3
    assert "sides of 32 to 4096 pixels, got 20×20" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["nothing*.png"], "matches nothing"),
        (["--faces", "biggest"], "faces must be all, largest, centre or a number"),
        (["--detector", "nobody"], "no detector is named 'nobody'"),
        (["--weights", "none.safetensors"], "none.safetensors does not exist"),
        (["--plot", "plot.jpg"], "the picture is a PNG; choose a name that ends in .png"),
    ],
)
def test_wrong_calls_are_told(photo, words, text, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", str(photo), *words]) == 2
    assert text in capsys.readouterr().err


def test_words_follow_the_figures():
    figures = {"blur": 2.0, "reduction": 3.0, "noise": 9.0, "quality": 70.0, "limit": 0.08}
    words = in_words({**figures, "size": [200, 180], "detail": 29, "low": figures, "high": figures})
    assert words.startswith("200×180 pixels, very soft: detail up to 0.080 cycles per pixel (0.080 to 0.080)")
    assert "; noise, σ 9.0 levels" in words and "; JPEG, quality 70" in words
    sharp = {"blur": 0.1, "reduction": 1.0, "noise": 0.4, "quality": 99.0, "limit": 0.45}
    words = in_words({**sharp, "size": [200, 180], "detail": 162, "low": sharp, "high": sharp})
    assert "pixels, sharp: detail" in words and "hardly any noise" in words and "hardly any JPEG" in words

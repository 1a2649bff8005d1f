"""What commands write and print: no input and nothing of the user's is lost, no name acts on the terminal."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from codeprior.__main__ import main
from codeprior.commands._outputs import Report
from codeprior.photos import read
from tests.photos.making import scene

_NAME = "\x1b]0;owned\x07\x9b2J\nred"


def _picture(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(scene(64, 64) + np.uint8(seed)).save(path)
    return path


def _bytes(*paths: Path) -> list[bytes]:
    return [path.read_bytes() for path in paths]


@pytest.fixture
def restore(weights):
    return lambda *words: main(["restore", *map(str, words), "--weights", str(weights), "--aligned", "--quiet"])


COMMANDS = {
    "restore": ["restore", "a.png", "out", "--aligned", "--quiet", "--report"],
    "degrade": ["degrade", "a.png", "out", "--preset", "gfpgan", "--report"],
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("more", [[], ["--overwrite"]])
def test_a_report_is_never_the_photograph(command, more, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = _picture(tmp_path / "a.png")
    os.link(path, tmp_path / "same.png")
    (tmp_path / "link.png").symlink_to("a.png")
    before = path.read_bytes()
    for name in ("a.png", "./a.png", "same.png", "link.png"):
        assert main([*COMMANDS[command], name, *more]) == 2
        assert "is one of the inputs, which are kept" in capsys.readouterr().err
        assert path.read_bytes() == before


@pytest.mark.parametrize("command", COMMANDS)
def test_a_report_replaces_nothing_unasked(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    _picture(tmp_path / "a.png")
    (tmp_path / "thesis.txt").write_bytes(b"mine")
    assert main([*COMMANDS[command], "thesis.txt"]) == 2
    assert "exists already and is kept" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*"))
    assert (tmp_path / "thesis.txt").read_bytes() == b"mine"
    (tmp_path / "r.jsonl").symlink_to("thesis.txt")
    assert main([*COMMANDS[command], "r.jsonl", "--overwrite"]) == 0
    assert (tmp_path / "thesis.txt").read_bytes() == b"mine"
    assert json.loads((tmp_path / "r.jsonl").read_text())["input"] == "a.png"


@pytest.mark.parametrize("content", [b"mine", b"[1]\n", b"{}\n", b"\x89PNG\r\n"])
def test_only_a_report_is_gone_on_with(content, tmp_path, restore, capsys):
    _picture(tmp_path / "a.png")
    (tmp_path / "r.jsonl").write_bytes(content)
    assert restore(tmp_path / "a.png", tmp_path / "out", "--resume", "--report", tmp_path / "r.jsonl") == 2
    assert "is no report of this command" in capsys.readouterr().err
    assert (tmp_path / "r.jsonl").read_bytes() == content


def test_a_disk_that_is_full_under_the_report_ends_the_report_alone(tmp_path, restore, capsys, monkeypatch):
    for name in "abc":
        _picture(tmp_path / "in" / f"{name}.png")
    written = []

    def failing(self, line):
        written.append(line)
        if len(written) > 2:
            self.failure = OSError(28, "No space left on device")
            self.close()

    monkeypatch.setattr(Report, "_write", failing)
    assert restore(tmp_path / "in", tmp_path / "out", "--report", tmp_path / "r.jsonl") == 3
    assert "is not whole: No space left on device" in capsys.readouterr().err
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_a_full_disk_is_noted_and_closed_once(tmp_path):
    report = Report(tmp_path / "r.jsonl")
    report._file.close()
    report._file = open("/dev/full", "w") if Path("/dev/full").exists() else report._file  # noqa: SIM115
    report.add(input="a" * 100_000)
    report.add(input="b")
    report.close()
    assert report.failure is not None and report.failure.errno == 28


@pytest.mark.parametrize(
    ("inputs", "out", "results"),
    [
        (["photos"], ".", ["a.png", "sub/b.png"]),
        (["photos/sub"], "photos", ["photos/b.png"]),
        (["photos"], "photos/restored", ["photos/restored/a.png", "photos/restored/sub/b.png"]),
        (["photos"], "linked/restored", ["photos/restored/a.png", "photos/restored/sub/b.png"]),
        (["linked"], ".", ["a.png", "sub/b.png"]),
    ],
)
def test_an_output_around_or_inside_the_input_works(inputs, out, results, tmp_path, restore, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sources = [_picture(tmp_path / "photos" / "a.png"), _picture(tmp_path / "photos" / "sub" / "b.png", 9)]
    (tmp_path / "linked").symlink_to("photos")
    before = _bytes(*sources)
    assert restore(*inputs, out) == 0
    assert all((tmp_path / name).is_file() for name in results)
    assert _bytes(*sources) == before
    # results below the input are no inputs of a second run
    assert restore(*inputs, out, "--overwrite") == 0
    assert not (tmp_path / "photos" / "restored" / "restored").exists()


@pytest.mark.parametrize("more", [[], ["--overwrite"], ["--resume"]])
def test_no_result_replaces_an_input(more, tmp_path, restore, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sources = [_picture(tmp_path / "photos" / name) for name in ("a.jpg", "a.png", "b.bmp")]
    before = _bytes(*sources)
    assert restore("photos", "photos", *more) == 3
    assert "would replace the photograph itself" in capsys.readouterr().err
    assert restore("photos", "photos", "--format", "png", *more) == 3
    errors = capsys.readouterr().err
    assert "would replace the input photos/a.png" in errors
    assert _bytes(*sources) == before
    assert sorted(path.name for path in (tmp_path / "photos").iterdir()) == ["a.jpg", "a.png", "b.bmp", "b.png"]


def test_nothing_to_do_is_said(tmp_path, restore, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("words")
    assert restore(tmp_path / "in", tmp_path / "out", "--report", tmp_path / "r.jsonl") == 2
    assert "found no picture in" in capsys.readouterr().err
    assert not (tmp_path / "r.jsonl").exists()


def test_a_file_where_a_folder_is_needed_stops_only_what_needs_it(tmp_path, restore, capsys):
    for name in ("a.png", "sub/b.png"):
        _picture(tmp_path / "in" / name)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").write_bytes(b"mine")
    assert restore(tmp_path / "in", tmp_path / "out") == 3
    assert "cannot be made" in capsys.readouterr().err
    assert (tmp_path / "out" / "a.png").is_file()
    assert (tmp_path / "out" / "sub").read_bytes() == b"mine"


def test_results_that_differ_in_their_suffix_have_sheets_of_their_own(tmp_path, restore):
    for seed, name in enumerate(("photo.jpg", "photo.png", "c.png", "c.compare.png")):
        _picture(tmp_path / "in" / name, seed)
    assert restore(tmp_path / "in", tmp_path / "out", "--compare", "--uncertainty") == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"photo.compare.png", "photo.png.compare.png", "photo.uncertainty.png", "photo.png.uncertainty.png"} <= names
    # the sheet of c.png would have the name of another result
    assert {"c.png.compare.png", "c.compare.png", "c.compare.compare.png"} <= names
    assert read(tmp_path / "out" / "c.compare.png").pixels.shape == (64, 64, 3)


@pytest.mark.parametrize("record", [True, False])
def test_records_and_sheets_of_degrade_replace_nothing_unasked(record, tmp_path, capsys):
    for name in ("a.png", "a.jpg"):
        _picture(tmp_path / "in" / name)
    mine = tmp_path / "out" / ("a.safetensors" if record else "a.sheet.png")
    mine.parent.mkdir()
    mine.write_bytes(b"mine")
    words = ["degrade", str(tmp_path / "in" / "a.png"), str(tmp_path / "out"), "--preset", "gfpgan"]
    assert main([*words, "--record" if record else "--sheet"]) == 3
    assert "exists already and is kept" in capsys.readouterr().err
    assert mine.read_bytes() == b"mine" and len(list(mine.parent.iterdir())) == 1


def test_marks_that_fit_two_photographs_are_refused(tmp_path, restore, capsys):
    for name in ("x.png", "sub/x.png"):
        _picture(tmp_path / "in" / name)
    points = [[[20, 20], [40, 20], [30, 30], [22, 40], [38, 40]]]
    marks = tmp_path / "marks.json"
    marks.write_text(json.dumps({"x.png": points}))
    words = (tmp_path / "in", tmp_path / "out", "--landmarks", marks)
    assert restore(*words) == 2
    assert "x.png fits" in capsys.readouterr().err
    marks.write_text(json.dumps({"sub/x.png": points, str(tmp_path / "in" / "x.png"): points}))
    assert restore(*words) == 0


def test_names_never_reach_the_terminal_as_they_are(tmp_path, capsys):
    torch.save({f"weights{_NAME}": torch.ones(2), "x": {"deep": object}}, tmp_path / "a.pth")
    (tmp_path / _NAME).mkdir()
    bad = tmp_path / _NAME / f"{_NAME}.png"
    bad.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0\0\0\x01I\x1b[2\0\0\0\0\0")
    good = _picture(tmp_path / _NAME / f"good{_NAME}.png")
    odd = os.fsencode(tmp_path / "in") + b"\xff"
    os.mkdir(odd)
    _picture(Path(os.fsdecode(odd)) / "b.png").write_bytes(b"no picture")
    weights = tmp_path / f"{_NAME}.safetensors"
    weights.write_bytes(b"no weights")
    for words in (
        ["restore", tmp_path / _NAME, tmp_path / "out", "--aligned", "--quiet"],
        ["restore", good, tmp_path / "out2", "--weights", weights, "--aligned"],
        ["restore", tmp_path / f"no{_NAME}", tmp_path / "out3"],
        ["degrade", tmp_path / _NAME, tmp_path / "out4", "--preset", "gfpgan"],
        ["degrade", os.fsdecode(odd), tmp_path / "out5", "--preset", "gfpgan"],
        ["evaluate", tmp_path / _NAME, "--out", tmp_path / "out6", "--columns", "niqe"],
        ["verify", tmp_path / f"no{_NAME}.csv", tmp_path / _NAME, "--out", tmp_path / "out7"],
        ["data", "check", tmp_path / _NAME],
        ["data", "check", os.fsdecode(odd)],
        ["convert", tmp_path / "a.pth", tmp_path / f"{_NAME}b.safetensors"],
        ["convert", bad, tmp_path / "c.safetensors"],
        ["download", "https://example.org/", "--sha256", _NAME, "--to", tmp_path / _NAME],
        ["download", _NAME, "--to", tmp_path],
    ):
        assert main([str(word) for word in words]) in (0, 2, 3), words
        told = capsys.readouterr()
        text = told.out + told.err
        assert text, words
        assert not [letter for letter in text.replace("\n", "") if not letter.isprintable()], words


def test_evaluations_replace_no_file_of_somebody_else(tmp_path, capsys):
    from codeprior.commands.evaluate import _RESULTS

    _picture(tmp_path / "method" / "a.png")
    for name in (*_RESULTS, "journal.jsonl"):
        out = tmp_path / f"out-{name}"
        out.mkdir()
        (out / name).write_bytes(b"mine")
        assert main(["evaluate", str(tmp_path / "method"), "--columns", "niqe", "--out", str(out), "--quiet"]) == 2
        assert "kept" in capsys.readouterr().err
        assert [path.read_bytes() for path in out.iterdir()] == [b"mine"]


def test_cells_of_a_table_are_text():
    from codeprior.metrics.results import cell

    assert [cell(text) for text in ("=1+1", "+1", "-1", "@x", "\tx", "a=b", "")] == [
        "'=1+1", "'+1", "'-1", "'@x", "'\tx", "a=b", ""
    ]  # fmt: skip


def test_a_demo_without_its_photograph_says_so(tmp_path, weights, capsys):
    words = [
        "demo",
        "--photo",
        str(tmp_path / f"no{_NAME}.png"),
        "--weights",
        str(weights),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "codeprior demo: " in told and "\x1b" not in told and r"\x1b" in told

"""`codeprior restore` leaves alone what it would make worse, and says so."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from codeprior.__main__ import main
from codeprior.photos import read
from codeprior.photos.faces import template
from tests.photos.corpus import scene
from tests.shared import shared_path


@pytest.fixture
def call(weights, estimated):
    def run(*words: object) -> int:
        return main(["restore", *map(str, words), "--weights", str(weights), "--quiet"])

    return run


@pytest.fixture
def marked(tmp_path) -> tuple[Path, list[object]]:
    """Gives a JPEG with two faces that are marked by hand, and the words that say where they are."""
    Image.fromarray(np.concatenate([scene(200, 200)] * 2, axis=1)).save(tmp_path / "a.jpg", quality=90, dpi=(72, 72))
    faces = [(template(side) + (shift, 10)).tolist() for side, shift in ((160, 10), (120, 230))]
    (tmp_path / "points.json").write_text(json.dumps({"a.jpg": faces}))
    return tmp_path / "a.jpg", ["--landmarks", tmp_path / "points.json", "--report", tmp_path / "report.jsonl"]


def _line(folder: Path) -> dict:
    return json.loads((folder / "report.jsonl").read_text())


def test_a_photograph_of_sharp_faces_is_copied_byte_for_byte(tmp_path, call, estimated, marked, capsys):
    photo, words = marked
    estimated(limit=0.4)
    assert call(photo, tmp_path / "out.jpg", *words, "--compare", "--uncertainty") == 0
    assert (tmp_path / "out.jpg").read_bytes() == photo.read_bytes()
    line = _line(tmp_path)
    assert line["status"] == "untouched"
    assert line["reason"] == "sharper than 64 px can show; nothing to mend"
    assert line["notes"] == ["the file was copied as it is"]
    assert [(face["restored"], face["decision"]) for face in line["faces"]] == [(False, "left")] * 2
    assert line["faces"][0]["cycles"] == pytest.approx(0.4 * line["faces"][0]["side"], abs=0.1)
    assert line["faces"][0]["damage"]["limit"] == 0.4
    assert "0 restored, 1 left as it was, 0 failed" in capsys.readouterr().err
    # another format cannot be copied, and has the same pixels; a report that exists would be kept
    (tmp_path / "report.jsonl").unlink()
    assert call(photo, tmp_path / "out.png", *words) == 0
    assert np.array_equal(read(tmp_path / "out.png").pixels, read(photo).pixels)
    (tmp_path / "report.jsonl").unlink()
    assert call(photo, tmp_path / "out.jpg", *words) == 3  # kept without --overwrite


def test_why_photographs_were_left_is_said_once(tmp_path, weights, estimated, marked, capsys):
    photo, words = marked
    estimated(limit=0.4)
    assert main(["restore", str(photo), str(tmp_path / "out.jpg"), *map(str, words), "--weights", str(weights)]) == 0
    told = capsys.readouterr().err
    assert told.count("hold as much detail as the model gives back") == 1 and "--always restores them" in told
    (tmp_path / "report.jsonl").unlink()
    estimated(limit=0.001)
    assert main(["restore", str(photo), str(tmp_path / "b.jpg"), *map(str, words), "--weights", str(weights)]) == 0
    assert "--always" not in capsys.readouterr().err


def test_always_restores_them_all_the_same(tmp_path, call, estimated, marked):
    photo, words = marked
    estimated(limit=0.4)
    assert call(photo, tmp_path / "out.png", *words, "--always") == 0
    line = _line(tmp_path)
    assert line["status"] == "restored"
    assert line["faces"][0]["reason"] == "restored as the model says, as asked"
    assert not np.array_equal(read(tmp_path / "out.png").pixels, read(photo).pixels)


def test_one_face_is_left_and_the_other_restored(tmp_path, call, estimated, marked, monkeypatch):
    """The smaller face is said to be sharp: every byte around it stays, in a format without loss."""
    from tests.commands.conftest import Says

    class BySize(Says):
        def estimate(self, faces):
            self.figures["limit"] = 0.4 if faces.shape[-1] < 140 else 0.001
            return super().estimate(faces)

    monkeypatch.setattr("codeprior.estimators.load_estimator", lambda: BySize())
    photo, words = marked
    assert call(photo, tmp_path / "out.png", *words, "--uncertainty") == 0
    assert [face["decision"] for face in _line(tmp_path)["faces"]] == ["restored", "left"]
    assert ["uncertainty" in face for face in _line(tmp_path)["faces"]] == [True, False]
    before, after = read(photo).pixels, read(tmp_path / "out.png").pixels
    assert np.array_equal(before[:, 200:], after[:, 200:])
    assert not np.array_equal(before[:, :200], after[:, :200])


def test_an_aligned_face_is_mended_at_its_own_resolution(tmp_path, call, estimated):
    Image.fromarray(scene(150, 150)).save(tmp_path / "a.png")
    words = (
        tmp_path / "a.png",
        tmp_path / "out.png",
        "--aligned",
        "--overwrite",
        "--report",
        tmp_path / "report.jsonl",
    )
    estimated(limit=0.05, blur=3.0)
    assert call(*words) == 0
    assert Image.open(tmp_path / "out.png").size == (150, 150)
    (face,) = _line(tmp_path)["faces"]
    assert face["decision"] == "mended"
    assert face["reason"] == "kept up to 8 cycles a face; finer detail comes from the model"
    estimated(limit=0.4)
    assert call(*words) == 0
    assert np.array_equal(read(tmp_path / "out.png").pixels, scene(150, 150))
    assert call(*words, "--always") == 0
    assert Image.open(tmp_path / "out.png").size == (64, 64)


def test_fidelity_one_gives_the_photograph_back(tmp_path, call, estimated, marked):
    photo, words = marked
    estimated(limit=0.05, blur=3.0)
    apart = {}
    for fidelity in ("0", "auto", "1"):
        assert call(photo, tmp_path / "out.png", *words, "--fidelity", fidelity, "--overwrite") == 0
        apart[fidelity] = np.abs(read(tmp_path / "out.png").pixels.astype(int) - read(photo).pixels).mean()
    # resampled out of the photograph and back
    assert apart["1"] < min(1, 0.5 * apart["auto"])
    assert apart["auto"] < apart["0"]


def test_other_fidelities_are_refused(tmp_path, call, marked, capsys):
    assert call(marked[0], tmp_path / "out", "--fidelity", "most") == 2
    assert "fidelity must be auto or a number from 0 to 1, got 'most'" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["grey.jpg", "grey_rgb.png"])
@pytest.mark.parametrize("figures", [{"limit": 1 / 4096}, {"limit": 0.08, "blur": 2.0}])
def test_grey_stays_grey(tmp_path, call, estimated, name, figures):
    estimated(**figures)
    photo = shared_path("cases/grey") / name
    assert call(photo, tmp_path / "out.png") == 0
    before, after = read(photo).pixels, read(tmp_path / "out.png").pixels
    assert not np.array_equal(before, after)
    assert np.array_equal(after.min(2), after.max(2))
    assert call(photo, tmp_path / "own.png", "--no-match-colour", "--always") == 0
    own = read(tmp_path / "own.png").pixels.astype(int)
    assert (own.max(2) - own.min(2)).max() > 20  # what the network itself says of it

"""The page without its page: faces chosen by clicks, one photograph or many restored, what is refused."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from codeprior.commands._ui import Bench, Limits, Opened, Settings
from codeprior.commands._ui.bench import clicked, damage_map
from codeprior.commands._ui.page import _listed, settings
from codeprior.photos.faces import Face, template
from codeprior.photos.restoration import Restored
from tests.photos.making import scene

_SMALL = Settings("daefr: small")


class Grey:
    """A restorer that gives grey faces, and is sure of nothing."""

    size = 32

    def restore(self, images, *, fidelities, uncertainty):
        return Restored(torch.full_like(images, 0.5), torch.ones(len(images), 4, 4) if uncertainty else None)


class Mute(Grey):
    """One that cannot say how sure it is."""

    def restore(self, images, *, fidelities, uncertainty):
        return Restored(torch.full_like(images, 0.5))


def _face(left: float, top: float, side: float = 80, score: float = 0.99) -> Face:
    points = template(round(side)) + [left, top]
    return Face(np.array([left, top, left + side, top + side], float), points, score)


def _two(photo: np.ndarray) -> list[Face]:
    return [_face(120, 20), _face(10, 20), _face(60, 100, score=0.5)]


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.setattr("codeprior.commands._ui.bench.load_restorer", lambda *_, **__: Grey())
    return Bench(finder=_two)


@pytest.fixture
def photo(tmp_path) -> Path:
    Image.fromarray(scene(160, 220)).save(tmp_path / "two.png")
    return tmp_path / "two.png"


def test_faces_stand_from_left_to_right_and_doubtful_ones_are_not_offered(bench, photo):
    opened = bench.open(photo)
    assert [float(face.box[0]) for face in opened.faces] == [10, 120]
    assert opened.chosen == {0, 1}
    assert (bench.shown(opened) != bench.shown(opened._replace(chosen=frozenset()))).any()


def test_a_click_leaves_a_face_out_and_takes_it_in_again():
    opened = Opened(Path("a.png"), (_face(0, 0, 100), _face(20, 20, 30)), frozenset({0, 1}))
    assert clicked(opened, 30, 30).chosen == {0}, "the smaller of two"
    assert clicked(clicked(opened, 30, 30), 30, 30) == opened
    assert clicked(opened, 150, 30) is opened


def test_only_chosen_faces_are_restored(bench, photo):
    opened = bench.open(photo)
    done = bench.restore(clicked(opened, 150, 50), _SMALL)
    changed = (done.before != done.after).any(2)
    assert changed[:, :80].any() and not changed[:, 110:].any()
    assert np.array_equal(np.asarray(Image.open(done.path)), done.after)
    assert done.uncertainty is not None and done.uncertainty.shape == done.before.shape
    assert len(done.said) == 1
    assert np.array_equal(np.asarray(Image.open(photo)), done.before), "the photograph itself stays"


def test_a_model_that_cannot_say_how_sure_it_is_restores_all_the_same(bench, photo, monkeypatch):
    monkeypatch.setattr("codeprior.commands._ui.bench.load_restorer", lambda *_, **__: Mute())
    done = bench.restore(bench.open(photo), _SMALL)
    assert done.uncertainty is None and (done.before != done.after).any()


def test_many_become_an_archive_and_a_bad_one_stops_nothing(bench, photo, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8 no picture")
    Image.fromarray(scene(160, 220)).save(tmp_path / "more.jpg")
    said = []
    archive, told = bench.restore_all(
        [photo, tmp_path / "bad.jpg", tmp_path / "more.jpg"], _SMALL, said=lambda *words: said.append(words)
    )
    assert [what.split(":")[0] for _, what in told] == ["restored", "failed", "restored"]
    assert str(tmp_path) not in str(told)
    assert said == [(0, "two.png"), (1, "bad.jpg"), (2, "more.jpg")]
    with zipfile.ZipFile(archive) as file:
        assert sorted(file.namelist()) == ["more.jpg", "two.png"]


def test_what_is_too_much_is_refused_with_its_size(bench, photo, tmp_path):
    bench.limits = Limits(megabytes=1, megapixels=0)
    with pytest.raises(ValueError, match=r"two\.png has 220×160 pixels; photographs up to 0 megapixels"):
        bench.open(photo)
    (tmp_path / "large.jpg").write_bytes(bytes(2 * 2**20))
    with pytest.raises(ValueError, match=r"large\.jpg has 2 MB; files up to 1 MB are taken"):
        bench.open(tmp_path / "large.jpg")


@pytest.mark.parametrize(("limits", "reason"), [
    (Limits(photographs=1), "left out: 1 photographs are done at once"),
    (Limits(seconds=-1), "left out: the -1 seconds are over"),
])  # fmt: skip
def test_what_is_over_the_limits_is_left_out_and_said(bench, photo, tmp_path, limits, reason):
    bench.limits = limits
    Image.fromarray(scene(160, 220)).save(tmp_path / "more.jpg")
    _, told = bench.restore_all([photo, tmp_path / "more.jpg"], _SMALL)
    assert told[1] == ("more.jpg", reason)


def test_a_bad_file_is_named_without_its_folder(bench, tmp_path):
    (tmp_path / "bad.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"^bad\.png: ") as caught:
        bench.open(tmp_path / "bad.png")
    assert str(tmp_path) not in str(caught.value)


def test_a_photograph_without_a_chosen_face_is_not_restored(bench, photo):
    with pytest.raises(ValueError, match=r"two\.png: no face is chosen; click on one"):
        bench.restore(bench.open(photo)._replace(chosen=frozenset()), _SMALL)


def test_weights_are_called_by_family_or_file(tmp_path):
    (tmp_path / "mine.safetensors").write_bytes(b"")
    assert list(Bench(["small", str(tmp_path / "mine.safetensors")]).names) == ["daefr: small", "mine.safetensors"]
    with pytest.raises(FileNotFoundError, match="no embedded weights have that name"):
        Bench(["large"])


def test_the_damage_map_frames_a_face_brighter_the_more_it_lost():
    def mean(cycles: float) -> float:
        figures = {"blur": 1.0, "reduction": 1.0, "noise": 0.0, "quality": 90.0}
        face = {"box": [20, 20, 180, 180], "cycles": cycles, "side": 160.0, "damage": figures}
        return float(damage_map(np.zeros((200, 200, 3), np.uint8), [face])[20, 100].mean())

    assert mean(2) > mean(40) > mean(79)


def test_settings_say_what_the_page_says():
    assert settings("a", True, 0.3, 0.5, False) == Settings("a", "auto", 0.5, False)
    assert settings("a", False, 0.3, 1, True) == Settings("a", 0.3, 1.0, True)
    assert settings("a", True, 0.3, 1, True, True).choices().grain == "auto"
    assert settings("a", True, 0.3, 1, True, False).choices().grain == 0


def test_names_are_no_markup():
    assert _listed(("![x](http://there/a.png) <b>",)) == r"- \!\[x\]\(http://there/a\.png\) \<b\>"

"""`codeprior demo` and `env`: a face damaged and restored by the embedded prior, with figures, offline."""

import json

import numpy as np
import pytest
from PIL import Image

from codeprior.__main__ import main
from codeprior.commands.demo import _photo
from tests.commands.conftest import Says


def test_the_demo_writes_a_picture_and_figures(tmp_path, monkeypatch):
    # nothing may use the network, and nothing is written elsewhere
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("the demo asked for the network"))
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--out", "out"]) == 0
    figures = json.loads((tmp_path / "out" / "figures.json").read_text())
    # the embedded prior on the default photograph; blur is cheap in PSNR, so little is asked of it
    assert figures["after"]["ssim"] > figures["before"]["ssim"]
    assert figures["after"]["perceptual"] < 0.9 * figures["before"]["perceptual"]
    assert figures["after"]["psnr"] > figures["before"]["psnr"] - 1
    assert Image.open(tmp_path / "out" / "demo.png").size[0] > 1800
    assert figures["decision"] in ("mended", "restored")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "demo.png", "degraded.png", "restored.png", "original.png", "photo-degraded.png", "photo-restored.png",
        "figures.json",
    }  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_demo_leaves_the_good_photograph_alone_and_says_why(tmp_path, monkeypatch):
    class BySide(Says):
        """The face that the demo degrades has 512 pixels a side, the good one less."""

        def estimate(self, faces):
            self.figures |= {"limit": 0.3} if faces.shape[-1] < 512 else {"limit": 12 / 512, "blur": 8.0}
            return super().estimate(faces)

    monkeypatch.setattr("codeprior.estimators.load_estimator", lambda: BySide())
    assert main(["demo", "--out", str(tmp_path)]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["decision"] == "mended"
    assert figures["reason"] == "kept up to 12 cycles a face; finer detail comes from the model"
    assert figures["damage"]["blur"] == 8
    assert figures["undamaged"]["decision"] == "left"
    assert "nothing to mend" in figures["undamaged"]["reason"]
    assert figures["undamaged"]["changed_pixels"] == 0
    assert figures["after"]["psnr"] > figures["before"]["psnr"]
    assert {"before", "after", "preset", "seed", "face", "model_size", "measures", "uncertainty"} <= set(figures)


def test_a_photograph_without_a_face_is_said(tmp_path, capsys):
    Image.new("RGB", (80, 80)).save(tmp_path / "a.png")
    assert main(["demo", "--photo", str(tmp_path / "a.png"), "--out", str(tmp_path / "out")]) == 2
    assert "no face was found" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_portrait_is_the_one_of_scikit_image():
    astronaut = pytest.importorskip("skimage.data").astronaut()
    assert np.array_equal(_photo(None), astronaut)


def test_env_names_what_is_installed(capsys):
    assert main(["env"]) == 0
    said = capsys.readouterr().out
    assert "torch: " in said
    assert "missing" not in said

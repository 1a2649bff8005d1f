"""`codeprior restore` of pictures of sixteen bits a channel."""

import json

import numpy as np
import pytest

from codeprior.__main__ import main
from codeprior.photos import read, write
from codeprior.photos.faces import template
from tests.photos.making import scene


def _deep(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(height)
    return (scene(height, width).astype(np.uint16) << 8) | rng.integers(0, 256, (height, width, 3), dtype=np.uint16)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_restore_keeps_the_values_around_faces(suffix, weights, estimated, tmp_path):
    photo = _deep(200, 180)
    source, out, report = tmp_path / f"a.{suffix}", tmp_path / "out", tmp_path / "report.jsonl"
    write(source, photo)
    marks = tmp_path / "marks.json"
    marks.write_text(json.dumps({f"a.{suffix}": [(template(64) + 50).tolist()]}))
    words = [str(source), str(out), "--weights", str(weights), "--landmarks", str(marks), "--smallest", "4"]
    assert main(["restore", *words, "--report", str(report)]) == 0
    restored = read(out / f"a.{suffix}", keep_depth=True).deep
    assert restored is not None
    changed = (restored != photo).any(2)
    assert changed[60:100, 60:100].mean() > 0.9
    changed[50:114, 50:114] = False
    assert not changed.any()
    (line,) = map(json.loads, report.read_text().splitlines())
    assert line["status"] == "restored" and line["notes"] == []
    assert main(["restore", *words[:1], str(tmp_path / "jpeg"), *words[2:], "--format", "jpg"]) == 0
    assert read(tmp_path / "jpeg" / "a.jpg").pixels.shape == photo.shape


def test_an_aligned_face_of_sixteen_bits_stays_one(weights, estimated, tmp_path):
    write(tmp_path / "a.png", _deep(64, 64))
    words = ["restore", str(tmp_path / "a.png"), str(tmp_path / "out"), "--weights", str(weights), "--aligned"]
    assert main(words) == 0
    restored = read(tmp_path / "out" / "a.png", keep_depth=True).deep
    assert restored is not None and restored.shape == (64, 64, 3)
    assert len(np.unique(restored & 255)) > 100

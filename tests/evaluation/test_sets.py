from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import codeprior as cp
from codeprior import degradations
from codeprior.degradations import Chain
from codeprior.evaluation import TestSet, build, chosen_faces, drawn_set
from tests.recipes.coarse import coarse_faces


@pytest.fixture
def faces(tmp_path) -> Path:
    return coarse_faces(tmp_path / "faces", "abcde", cells=6, side=48)


def _small(faces: Path, **changes) -> TestSet:
    return build(faces, **{"preset": "daefr", "seed": 3, "degradation_size": 96} | changes)


def _unit(faces: Path, names: str) -> torch.Tensor:
    pixels = np.stack([np.asarray(Image.open(faces / f"{name}.png")) for name in names])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


def test_a_set_read_back_gives_the_same_pixels(faces, tmp_path):
    made = _small(faces)
    made.save(tmp_path / "set.json")
    read = TestSet.load(tmp_path / "set.json")
    first, second = next(made.batches(faces, size=24)), next(read.batches(faces, size=24))
    assert torch.equal(first.degraded, second.degraded)
    assert torch.equal(first.clean, second.clean)
    assert first.faces == second.faces


def test_truth_and_input_follow_the_rule_of_training(faces):
    made = _small(faces)
    pairs = next(made.batches(faces, size=24, batch=2))
    unit = _unit(faces, "ab")
    large = F.interpolate(unit, size=(96, 96), mode="bicubic").clamp(0, 1)
    damaged = cp.degradations.preset("daefr").apply(large, made.drawn[[0, 1]], mode="strict")
    assert torch.equal(pairs.clean, F.interpolate(unit, size=(24, 24), mode="area"))
    assert torch.equal(pairs.degraded, F.interpolate(damaged, size=(24, 24), mode="area"))


def test_damage_depends_on_neither_the_order_nor_the_number_of_faces(faces):
    whole = next(_small(faces).batches(faces, size=24))
    chosen, _ = chosen_faces(faces)
    turned = drawn_set(chosen[::-1][:3], preset="daefr", seed=3, degradation_size=96)
    backwards = next(turned.batches(faces, size=24, batch=2))
    assert [face.name for face in backwards.faces] == ["e", "d"]
    for row, place in enumerate((4, 3)):
        assert torch.equal(backwards.degraded[row], whole.degraded[place])
    assert turned.stamps() == {name: _small(faces).stamps()[name] for name in "edc"}
    assert _small(faces, seed=4).drawn.describe(0) != _small(faces).drawn.describe(0)


def test_the_clean_preset_leaves_the_face_as_a_file_would_hold_it(faces):
    pairs = next(_small(faces, preset="clean").batches(faces, size=24))
    large = F.interpolate(_unit(faces, "abcde"), size=(96, 96), mode="bicubic").clamp(0, 1)
    expected = F.interpolate((large * 255).round() / 255, size=(24, 24), mode="area")
    assert torch.allclose(pairs.degraded, expected, atol=1e-6)  # float32 division


def test_an_index_chooses_by_split_source_and_class(faces):
    (faces / "index.csv").write_text(
        "id,split,source,class,identity,file,file512\n"
        "x,test,one,256,p,a.png,b.png\ny,train,one,256,q,c.png,\nz,test,two,256u,p,d.png,\nw,test,two,256,r,e.png,\n"
    )
    made = _small(faces, split="test")
    assert [(face.name, face.file, face.identity, face.source) for face in made.faces] == [
        ("x", "b.png", "p", "one"), ("z", "d.png", "p", "two"), ("w", "e.png", "r", "two"),
    ]  # fmt: skip
    assert [face.name for face in _small(faces, split="test", sources=["two"]).faces] == ["z", "w"]
    assert [face.name for face in _small(faces, sources=["two"], classes=["256"]).faces] == ["w"]
    (faces / "elsewhere.csv").write_text((faces / "index.csv").read_text().replace("x,test", "x,val"))
    assert [face.name for face in _small(faces, index=faces / "elsewhere.csv", split="val").faces] == ["x"]
    with pytest.raises(ValueError, match=r"no row of .* has the split 'val'"):
        _small(faces, split="val")
    (faces / "index.csv").write_text("id,split,file\nx,test,a.png\n")
    with pytest.raises(ValueError, match="has no column source; it has id, split, file"):
        _small(faces, sources=["one"])


def test_the_source_is_kept_in_the_file_and_older_files_have_none(faces, tmp_path):
    (faces / "index.csv").write_text("id,split,source,file\nx,test,one,a.png\n")
    made = _small(faces, split="test")
    made.save(tmp_path / "set.json")
    assert TestSet.load(tmp_path / "set.json").faces[0].source == "one"
    text = (tmp_path / "set.json").read_text()
    (tmp_path / "set.json").write_text(text.replace('"source": "one", ', ""))
    assert TestSet.load(tmp_path / "set.json").faces[0].source == ""


@dataclass(frozen=True, kw_only=True)
class Jpeg(degradations.Jpeg):
    """JPEG as it would be with another field."""

    subsampling: str = "4:2:0"


def test_a_field_that_an_op_got_later_refuses_only_the_sets_that_use_it(faces, tmp_path, monkeypatch):
    made = _small(faces)
    made.save(tmp_path / "set.json")
    chain, pixels = made.chain, next(made.batches(faces, size=24)).degraded

    def with_field(preset, **changes):
        ops = cp.degradations.preset(preset).ops
        return Chain(ops=tuple(Jpeg(quality=op.quality, **changes) if hasattr(op, "quality") else op for op in ops))

    monkeypatch.setattr("codeprior.evaluation.sets._chain", with_field)
    assert "subsampling='4:2:0'" in _small(faces).chain
    read = TestSet.load(tmp_path / "set.json")
    assert torch.equal(next(read.batches(faces, size=24)).degraded, pixels)
    # what was measured and cached under the words of before is found again, also after the set is written anew
    assert read.chain == chain
    read.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "set.json").read_bytes()
    monkeypatch.setattr("codeprior.evaluation.sets._chain", lambda name: with_field(name, subsampling="4:4:4"))
    with pytest.raises(ValueError, match=r"was Chain.*is Chain.*subsampling='4:4:4'.* today; build the set anew"):
        TestSet.load(tmp_path / "set.json")


def test_a_set_whose_preset_changed_is_refused(faces, tmp_path):
    _small(faces).save(tmp_path / "set.json")
    (tmp_path / "set.json").write_text((tmp_path / "set.json").read_text().replace("sigma=(0.1, 15)", "sigma=(0.1, 9)"))
    with pytest.raises(ValueError, match=r"was Chain.*and is Chain.* today; build the set anew"):
        TestSet.load(tmp_path / "set.json")
    (tmp_path / "other.json").write_text("[1]")
    with pytest.raises(ValueError, match="no test set of the format"):
        TestSet.load(tmp_path / "other.json")

"""CodeFormer, VQFR and RestoreFormer agree with recorded outputs, and the report names the block that does not."""

import shutil
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from codeprior.kernels import use_impl
from tests.parity import families, family_blocks, family_report, report

_FIXTURES = Path(__file__).parent / "fixtures" / "codebook_family"


def _bad(name: str, pictures: tuple[str, ...] | None = None) -> list:
    rows = list(family_report.rows_of(_FIXTURES / f"{name}_open.npz", name, "open", pictures))
    assert len(rows) > 8
    return [row for row in rows if not row.good]


def test_a_restorer_agrees_at_512_pixels():
    # one of ten in the default suite: encoder, codes, guides, decoder and the walk down its taps
    assert not _bad("restoreformer")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in families.MODELS if name != "restoreformer"])
def test_every_model_agrees_at_512_pixels(name: str):
    assert not _bad(name)


@pytest.mark.slow
def test_the_compiled_convolution_rounds_a_codeformer_as_the_plain_one_does(monkeypatch: pytest.MonkeyPatch):
    # the transforms of filled weights raise features from 1 to 1000, and rounding with them, whoever convolves
    for limit in ("_SMALLEST", "_FEWEST"):
        monkeypatch.setattr(import_module("codeprior.kernels.convolution.api"), limit, 0)
    model, _ = families.filled("codeformer")
    image = families.fill.image_for("codeformer-open", 1, 64)

    def answer(image: torch.Tensor, impl: str) -> torch.Tensor:
        with torch.no_grad(), use_impl(f"convolution={impl}"):
            recorder = model.taps.recorder()
            return model.decode(model(image, record=recorder), recorder, fidelity=1.0, adapt=True).double()

    plain, compiled = (answer(image, impl) for impl in ("reference", "compiled"))
    model.double()
    truth = answer(image.double(), "reference")
    model.float()
    errors = [float((one - truth).square().mean().sqrt()) for one in (plain, compiled)]
    # measured at 128 px: 2.4 times as much of it, by the root of the mean square; the transform of 4×4 tiles adds terms
    assert 0 < errors[1] < 5 * errors[0] and errors[1] < 1e-3


def test_no_recorded_file_is_left_out():
    known, unknown = report.family_files(sorted(_FIXTURES.glob("*.npz")), "open")
    assert set(known) == {"blocks", *families.MODELS} and not unknown
    assert all(known[name].stem == f"{name}_open" for name in families.MODELS)


@pytest.fixture
def blocks_folder(tmp_path: Path) -> Path:
    shutil.copy(_FIXTURES / "blocks.npz", tmp_path)
    return tmp_path


def test_the_report_takes_the_blocks_and_sees_one_that_is_out(blocks_folder: Path, capsys: pytest.CaptureFixture[str]):
    assert report.main(["--fixtures", str(blocks_folder)]) == 0
    assert "0 not" in capsys.readouterr().out
    with np.load(blocks_folder / "blocks.npz") as stored:
        changed = dict(stored)
    changed["adain__out"] = changed["adain__out"] * 1.001
    np.savez(blocks_folder / "blocks.npz", **changed)
    assert report.main(["--fixtures", str(blocks_folder)]) == 1
    out = [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.endswith("OUT")]
    assert out == ["adain__out"]


def test_the_walk_names_the_first_block_that_disagrees():
    names = ["encoder.conv_in", "encoder.down.0.block.0", "decoder.conv_out"]
    stored = {
        "taps__name": np.array(names), "taps__shape": np.array(["(1, 2, 3)"] * 3), "taps__mean": np.zeros(3),
        "taps__std": np.ones(3),
    }  # fmt: skip
    trace = dict.fromkeys(names, (6, 0.0, 1.0))
    assert all(family_report._walked("f", array, stored, trace).good for array in stored)
    trace |= {"encoder.down.0.block.0": (6, 1e-3, 1.0), "decoder.conv_out": (6, 5e-3, 1.0)}
    assert family_report._walked("f", "taps__mean", stored, trace).verdict == "OUT: first at encoder.down.0.block.0"
    del trace["encoder.down.0.block.0"]
    row = family_report._walked("f", "taps__name", stored, trace)
    assert row.verdict == "OUT: no module of ours for encoder.down.0.block.0"


def test_every_recorded_tap_has_a_module_of_ours():
    for name in families.MODELS:
        with np.load(_FIXTURES / f"{name}_open.npz") as stored:
            if "taps__name" not in stored.files:
                continue
            keys = family_blocks.json.loads((_FIXTURES / f"keys_{name}.json").read_text())
            taps = [str(tap) for tap in stored["taps__name"]]
        with torch.device("meta"):
            state = {key: torch.empty(shape) for key, shape, _ in keys}
            converted = families.converted(name, state)
        pairs = families.paired(name, state, converted)
        missing = [tap for tap in taps if tap not in pairs and not family_report.PASSED_THROUGH.fullmatch(tap)]
        assert not missing, name


def test_held_files_go_before_open_ones_where_their_images_are_asked_for(tmp_path: Path):
    for suffix in ("open", "held"):
        (tmp_path / f"vqfr_v2_{suffix}.npz").touch()
        (tmp_path / f"vqfr_v2_nearest_{suffix}.npz").touch()
    (tmp_path / "surprise.npz").touch()
    known, unknown = report.family_files(sorted(tmp_path.glob("*.npz")), "held")
    assert {name: path.stem for name, path in known.items()} == {
        "vqfr_v2": "vqfr_v2_held", "vqfr_v2_nearest": "vqfr_v2_nearest_held",
    }  # fmt: skip
    assert [path.stem for path in unknown] == ["surprise"]

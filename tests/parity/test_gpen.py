"""GPEN agrees with recorded outputs, gradients included, and the report takes its files."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from codeprior.families import find_family
from codeprior.recipes.gpen.convert import convert
from codeprior.weights.layouts.gpen import is_gpen, translate_gpen
from tests.parity import gpen, report

_FIXTURES = Path(__file__).parent / "fixtures" / "gpen"


def _bad(name: str) -> list:
    rows = list(gpen.rows_of(_FIXTURES / f"{name}.npz"))
    assert len(rows) > 20
    return [row for row in rows if not row.good]


def test_the_tiny_networks_agree():
    assert not _bad("gpen_tiny_eq")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpen_losses_tiny", "gpen_512_eq"])
def test_losses_gradients_and_the_published_size_agree(name: str):
    assert not _bad(name)


def test_a_fault_in_the_filter_would_be_seen(monkeypatch):
    # gan_family.md 1.2: the noise half comes last; FIXTURES.md says what a swap does to the picture
    model, _ = gpen.networks("tiny")
    order = type(model.synthesis.convs[0]).forward
    monkeypatch.setattr(
        type(model.synthesis.convs[0]), "forward", lambda *given: torch.cat(order(*given).chunk(2, 1)[::-1], 1)
    )
    assert any(row.array == "out_open" and not row.good for row in gpen.rows_of(_FIXTURES / "gpen_tiny_eq.npz"))


def test_the_report_takes_a_folder_of_such_files_and_sees_one_that_is_out(tmp_path: Path, capsys):
    shutil.copy(_FIXTURES / "stylegan_ops.npz", tmp_path / "stylegan_ops_held.npz")
    assert report.main(["--fixtures", str(tmp_path), "--images", "held"]) == 0
    assert "21 arrays, 21 within tolerance, 0 not" in capsys.readouterr().out
    with np.load(tmp_path / "stylegan_ops_held.npz") as stored:
        changed = dict(stored)
    changed["blur_pad11"] = changed["blur_pad11"] + 2e-4
    np.savez(tmp_path / "stylegan_ops_held.npz", **changed)
    assert report.main(["--fixtures", str(tmp_path), "--images", "held"]) == 1
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.endswith("OUT")] == ["blur_pad11"]


def test_no_recorded_file_is_left_out():
    paths = sorted(_FIXTURES.glob("*.npz"))
    known, unknown = report.gpen_files(paths, "open")
    assert sorted(known) == paths and not unknown


def _empty(name: str, part: str) -> dict[str, torch.Tensor]:
    keys = json.loads((_FIXTURES / f"keys_gpen_{name}.json").read_text())
    with torch.device("meta"):
        return {key: torch.empty(shape) for key, shape, _ in keys[part]}


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("512", {"size": 512, "multiplier": 2, "narrow": 1.0, "noise": "concatenated"}),
        ("256", {"size": 256, "multiplier": 1, "narrow": 0.5, "noise": "concatenated"}),
        ("tiny", {"size": 64, "multiplier": 2, "narrow": 0.25, "noise": "concatenated"}),
        ("tiny_noise_add", {"size": 64, "multiplier": 2, "narrow": 0.25, "noise": "added"}),
    ],
)
def test_sizes_are_read_off_the_shapes(name, sizes):
    state = _empty(name, "generator")
    found = translate_gpen(state)
    assert is_gpen(state) and find_family("gpen").layouts[0].detect(state)
    assert found.network == "restorer"
    assert found.sizes == {"scale": 1, "dim": 512, "layers": 8} | sizes
    assert set(found.dropped) == {key for key in state if key.endswith(".kernel")}
    if name != "tiny_noise_add":
        judge = translate_gpen(_empty(name, "discriminator"))
        assert judge.sizes == {key: sizes[key] for key in ("size", "multiplier", "narrow")}


def test_published_counts_are_met():
    with torch.device("meta"):
        found = convert(_empty("512", "generator")), convert(_empty("512", "discriminator"))
    counts = [sum(p.numel() for p in module.parameters()) for one in found for module in one.modules.values()]
    assert counts == [71_005_223, 28_982_849]


def test_a_part_of_a_checkpoint_or_a_stranger_is_refused():
    state = _empty("tiny", "generator")
    with pytest.raises(ValueError, match=r"gpen: no such model has the tensor generator\.extra"):
        translate_gpen(state | {"generator.extra": torch.empty(1)})
    with pytest.raises(ValueError, match="gpen: expected generator.input.input and ecd0"):
        translate_gpen({"conv.weight": torch.empty(1)})
    without = {key: value for key, value in state.items() if not key.startswith("final_linear")}
    with pytest.raises(RuntimeError, match="to_latent"), torch.device("meta"):
        convert(without)

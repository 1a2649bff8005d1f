import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from codeprior import degradations, metrics
from codeprior.__main__ import main
from codeprior.commands.severity import _SWEEPS
from codeprior.evaluation import SWEEPS, Level, Method, Sweep, chosen_faces, levels, run
from codeprior.metrics import Journal, psnr, psnr_measure
from codeprior.recipes.daefr import severity
from tests.recipes.coarse import coarse_faces


@pytest.fixture
def faces(tmp_path) -> Path:
    return coarse_faces(tmp_path / "faces", "abc", cells=12, side=64)


def _swept(faces: Path, sweeps, restorers=None, *, out: Path) -> dict[tuple[str, float], metrics.Results]:
    conditions = levels(sweeps, chosen_faces(faces).faces)
    methods = [Method(name=name, restore=restore, stamp="sha") for name, restore in (restorers or {}).items()]
    with Journal(out / "journal.jsonl", key={}) as journal:
        found = run(
            faces, list(conditions.values()), methods, measures=[psnr_measure()], size=32, degradation_size=64, batch=2,
            journal=journal,
        )  # fmt: skip
    assert found.gone == {}
    return {key: found.results[one.name] for key, one in conditions.items()}


def test_every_parameter_alone_makes_pictures_worse_the_further_it_goes(faces, tmp_path):
    results = _swept(faces, SWEEPS, out=tmp_path)
    for sweep in SWEEPS:
        means = [results[sweep.name, level].summaries()["input"]["PSNR"].mean for level in sweep.levels]
        # of these 64 px nothing is left at the last levels: they are bad, in any order
        assert means[:4] == sorted(means[:4], reverse=True), f"{sweep.name}: {means}"
        assert np.isfinite(means).all()
        assert means[0] > means[-1] + 3


def test_a_level_is_that_degradation_and_nothing_else(faces, tmp_path):
    (blur,) = (sweep for sweep in SWEEPS if sweep.name == "blur")
    results = _swept(faces, [blur], {"grey": lambda images: torch.full_like(images, 0.5)}, out=tmp_path)
    clean = torch.from_numpy(np.array(Image.open(faces / "a.png"))).permute(2, 0, 1)[None].float() / 255
    import cv2

    blurred = cv2.GaussianBlur(np.array(Image.open(faces / "a.png")), (41, 41), 4, borderType=cv2.BORDER_REFLECT_101)
    expected = torch.from_numpy(blurred).permute(2, 0, 1)[None].float() / 255
    small, truth = F.interpolate(expected, size=(32, 32), mode="area"), F.interpolate(clean, size=(32, 32), mode="area")
    found = results["blur", 4].values
    # OpenCV blurs 8-bit levels in fixed point
    assert found["input"]["a"]["PSNR"] == pytest.approx(float(psnr(small, truth)), abs=0.02)
    assert found["grey"]["a"]["PSNR"] == pytest.approx(float(psnr(torch.full_like(truth, 0.5), truth)), rel=1e-9)


def test_an_interrupted_sweep_goes_on(faces, tmp_path, monkeypatch):
    sweep = Sweep(
        name="noise", unit="", levels=(5, 50),
        degrade=lambda level: degradations.GaussianNoise(sigma=(level, level)),
    )  # fmt: skip
    first = _swept(faces, [sweep], out=tmp_path)
    lines = (tmp_path / "journal.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "journal.jsonl").write_text("".join(lines[:4]))
    again = _swept(faces, [sweep], {}, out=tmp_path)
    assert {key: result.values for key, result in again.items()} == {key: one.values for key, one in first.items()}
    assert len((tmp_path / "journal.jsonl").read_text().splitlines()) == len(lines)
    # the same chain: nothing is degraded where everything is known
    monkeypatch.setattr(Level, "degrade", lambda *_: pytest.fail("degraded again"))
    assert _swept(faces, [sweep], out=tmp_path)["noise", 5].values == first["noise", 5].values


def test_a_method_that_is_added_costs_only_itself(faces, tmp_path):
    sweep = Sweep(
        name="noise", unit="", levels=(5, 50),
        degrade=lambda level: degradations.GaussianNoise(sigma=(level, level)),
    )  # fmt: skip
    calls = []

    def counted(images):
        calls.append(len(images))
        return images

    first = _swept(faces, [sweep], {"first": counted}, out=tmp_path)
    assert sum(calls) == 2 * 3
    both = _swept(faces, [sweep], {"second": torch.zeros_like, "first": counted}, out=tmp_path)
    assert sum(calls) == 2 * 3
    assert list(both["noise", 5].values) == ["input", "second", "first"]
    assert both["noise", 5].values["first"] == first["noise", 5].values["first"]
    assert set(both["noise", 50].values["second"]) == set("abc")


def test_the_command_writes_rows_tables_and_the_plot(faces, tmp_path, capsys):
    (faces / "d.png").write_bytes(b"not a picture")
    words = f"--faces {faces} --out {tmp_path / 'out'} --columns psnr,ssim --sweep JPEG --size 32 --limit 4".split()
    assert main(["severity", *words]) == 3
    said = capsys.readouterr()
    assert "severity: d.png: " in said.err and "JPEG alone, quality" in said.out
    rows = list(csv.DictReader((tmp_path / "out" / "severity.csv").read_text().splitlines()))
    assert len(rows) == 6 * 3
    found = json.loads((tmp_path / "out" / "severity.json").read_text())
    assert found["settings"]["faces"] == 3 and set(found["missing"]) == {"d.png"}
    level = [float(row["PSNR"]) for row in rows if row["level"] == "15"]
    (summary,) = (one for one in found["summaries"] if one["level"] == 15 and one["column"] == "PSNR")
    assert summary["mean"] == pytest.approx(np.mean(level), rel=1e-12)
    assert (tmp_path / "out" / "severity.png").read_bytes()[:4] == b"\x89PNG"
    assert severity.main(["--faces", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 1
    assert "at least one readable face" in capsys.readouterr().err


def test_the_command_takes_every_sweep():
    assert tuple(sweep.name for sweep in SWEEPS) == _SWEEPS


def test_nothing_is_replaced_that_the_command_did_not_write(faces, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "severity.csv").write_text("mine")
    words = f"--faces {faces} --out {out} --columns psnr --sweep JPEG --size 32".split()
    assert main(["severity", *words]) == 2
    assert "severity.csv exists already, and not from an earlier run of this command" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["severity.csv"]
    (out / "severity.csv").unlink()
    for name in ("severity.json", "severity.md", "severity.png"):
        (tmp_path / name).write_text("mine")
        (out / name).symlink_to(tmp_path / name)
    assert main(["severity", *words, "--overwrite"]) == 0
    for name in ("severity.json", "severity.md", "severity.png"):
        assert (tmp_path / name).read_text() == "mine" and not (out / name).is_symlink()
    # its own are replaced
    before = (out / "severity.csv").read_text()
    assert main(["severity", *words]) == 0
    assert (out / "severity.csv").read_text() == before


def test_names_do_nothing_to_a_terminal_or_a_spreadsheet(faces, tmp_path, capsys):
    (faces / "a.png").rename(faces / "=a\x1b[31m.png")
    (faces / "b.png").write_bytes(b"not a picture")
    (faces / "b.png").rename(faces / "b\x1b[0m.png")
    assert main(f"severity --faces {faces} --out {tmp_path / 'out'} --columns psnr --sweep JPEG --size 32".split()) == 3
    said = capsys.readouterr()
    assert "\x1b" not in said.err + said.out and r"b\x1b[0m.png" in said.err
    rows = list(csv.DictReader((tmp_path / "out" / "severity.csv").read_text().splitlines()))
    assert {row["image"][:2] for row in rows} == {"'=", "c"}

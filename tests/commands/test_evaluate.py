"""`codeprior evaluate` as a user calls it, on small folders."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from codeprior.__main__ import main
from codeprior.metrics import columns, feature_statistics, fid, inception, psnr, write_statistics
from codeprior.metrics.pictures import as_image


@pytest.fixture
def folders(tmp_path) -> Path:
    """A truth of five pictures; `near` and `far` with one missing, one damaged and one of another size."""
    generator = np.random.default_rng(0)
    for folder in ("truth", "near", "far"):
        (tmp_path / folder / "sub").mkdir(parents=True)
    for name in ("a", "b", "c", "d", "sub/e"):
        coarse = Image.fromarray(generator.integers(40, 216, (6, 6, 3), dtype=np.uint8))
        clean = np.asarray(coarse.resize((40, 40), Image.Resampling.BICUBIC)).astype(int)
        noise = generator.normal(size=clean.shape)
        for folder, level in (("truth", 0), ("near", 4), ("far", 20)):
            levels = np.clip(clean + level * noise, 0, 255).astype(np.uint8)
            Image.fromarray(levels).save(tmp_path / folder / f"{name}.png")
    (tmp_path / "far" / "b.png").unlink()
    (tmp_path / "far" / "c.png").write_bytes(b"not a picture")
    Image.new("RGB", (20, 20)).save(tmp_path / "far" / "d.png")
    return tmp_path


def _call(folders: Path, *words: str, methods: tuple[str, ...] = ("near", "far")) -> list[str]:
    paths = [str(folders / method) for method in methods]
    out = ["--out", str(folders / "out"), "--columns", "psnr,ssim"]
    return ["evaluate", *paths, "--truth", str(folders / "truth"), *out, *words]


def _figures(folders: Path) -> dict:
    return json.loads((folders / "out" / "results.json").read_text())


def test_pictures_are_measured_and_gaps_are_named_and_in_no_mean(folders, capsys):
    assert main(_call(folders)) == 3
    said = capsys.readouterr()
    assert "far: b: is missing" in said.err and "far: d: is 20×20 and its truth 40×40 pixels" in said.err
    found = _figures(folders)
    assert set(found["missing"]["far"]) == {"b", "c", "d"}
    assert found["summaries"]["far"]["PSNR"]["count"] == 2
    expected = [
        psnr(*(as_image(np.asarray(Image.open(folders / which / f"{name}.png"))) for which in ("far", "truth")))
        for name in ("a", "sub/e")
    ]
    assert found["summaries"]["far"]["PSNR"]["mean"] == pytest.approx(float(torch.cat(expected).mean()), rel=1e-12)
    assert found["comparisons"]["near"]["far"]["PSNR"]["wins"] == 0
    assert found["comparisons"]["near"]["far"]["PSNR"]["count"] == 2
    rows = list(csv.DictReader((folders / "out" / "scores.csv").read_text().splitlines()))
    assert {(row["image"], row["PSNR"]) for row in rows if row["method"] == "far" and row["missing"]} == {
        ("b", ""), ("c", ""), ("d", ""),
    }  # fmt: skip


def test_the_report_shows_the_best_and_the_worst(folders):
    assert main(_call(folders, "--report-count", "1", "--quiet")) == 3
    page = (folders / "out" / "report.html").read_text()
    values = {
        row["image"]: float(row["PSNR"])
        for row in csv.DictReader((folders / "out" / "scores.csv").read_text().splitlines())
        if row["method"] == "near"
    }
    assert f"near, best by PSNR: {max(values, key=values.__getitem__)} (" in page
    assert f"near, worst by PSNR: {min(values, key=values.__getitem__)} (" in page
    for file in ("report/000_best.jpg", "report/003_worst.jpg"):
        assert file in page and file in (folders / "out" / "report.md").read_text()
        assert (folders / "out" / file).is_file()


def test_an_interrupted_run_goes_on_and_changed_pictures_are_measured_again(folders, monkeypatch):
    assert main(_call(folders, "--quiet")) == 3
    whole = _figures(folders)
    journal = folders / "out" / "journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join(lines[:3]) + lines[3][:20])  # the head, two entries, and one that a crash cut short
    measured = _counted(monkeypatch)
    assert main(_call(folders, "--quiet")) == 3
    assert sum(measured) == 5  # seven in all
    assert _figures(folders) == whole
    measured.clear()
    assert main(_call(folders, "--quiet")) == 3
    assert not measured
    Image.new("RGB", (40, 40)).save(folders / "near" / "a.png")
    assert main(_call(folders, "--quiet")) == 3
    assert sum(measured) == 1
    measured.clear()
    assert main([*_call(folders, "--quiet", "--fresh")]) == 3
    assert sum(measured) == 7


def test_official_means_divide_by_the_clean_pictures(folders, capsys):
    assert main(_call(folders, "--official")) == 3
    found = _figures(folders)
    plain = found["summaries"]["far"]["PSNR"]
    assert found["official_means"]["far"]["PSNR"] == pytest.approx(plain["mean"] * 2 / 5, rel=1e-12)
    assert "divided by 5 clean ones" in capsys.readouterr().out


def test_names_of_the_references_scripts_are_found(folders):
    (folders / "suffixed").mkdir()
    for name in "abcd":
        (folders / "near" / f"{name}.png").rename(folders / "suffixed" / f"{name}_00.png")
    assert main(_call(folders, "--pattern", "{name}_00", "--quiet", methods=("suffixed",))) == 3
    assert list(_figures(folders)["missing"]["suffixed"]) == ["sub/e"]
    assert _figures(folders)["summaries"]["suffixed"]["PSNR"]["count"] == 4


def test_fid_and_kid_look_through_the_network_and_refuse_small_sets(folders, monkeypatch, capsys):
    def features(images):
        return images.float().mean(dim=(2, 3))

    class Stub:
        record = columns(["psnr"]).measures[0].record

        def __init__(self, weights):
            self.weights = weights

        __call__ = staticmethod(features)

    monkeypatch.setattr(inception, "FIDInception", Stub)
    (folders / "weights").mkdir()
    (folders / "weights" / "pt_inception-2015-12-05-6726825d.pth").touch()
    clean = torch.cat([
        features(as_image(np.asarray(Image.open(path)))) for path in sorted((folders / "truth").rglob("*.png"))
    ])  # fmt: skip
    write_statistics(folders / "reference.npz", feature_statistics(clean))
    words = ["--reference-stats", str(folders / "reference.npz"), "--weights", str(folders / "weights"), "--kid"]
    assert main(_call(folders, *words, methods=("near",))) == 2
    assert "expected at least 2000 pictures, got 5" in capsys.readouterr().err
    assert main(_call(folders, *words, "--force", "--quiet", methods=("near",))) == 0
    shown = torch.cat([
        features(as_image(np.asarray(Image.open(path)))) for path in sorted((folders / "near").rglob("*.png"))
    ])  # fmt: skip
    found = _figures(folders)
    expected = fid(shown, feature_statistics(clean), force=True)
    # single-precision features, averaged one by one or in a batch, under a difference of nearly equal sets
    assert found["sets"]["near"]["FID"] == {"value": pytest.approx(expected, rel=1e-4), "count": 5}
    assert "reference reference.npz" in found["set_measures"]["FID"]["note"]
    assert set(found["sets"]["near"]) == {"FID", "KID"}
    # features come back from the journal as they were
    assert main(_call(folders, *words, "--force", "--quiet", methods=("near",))) == 0
    assert _figures(folders)["sets"] == found["sets"]


def test_groups_widen_the_intervals(folders):
    (folders / "groups.csv").write_text("image,group\n" + "".join(f"{name},one\n" for name in "abcd") + "sub/e,two\n")
    assert main(_call(folders, "--groups", str(folders / "groups.csv"), "--quiet", methods=("near",))) == 0
    low, high = (_figures(folders)["summaries"]["near"]["PSNR"][end] for end in ("low", "high"))
    values = {
        row["image"]: float(row["PSNR"])
        for row in csv.DictReader((folders / "out" / "scores.csv").read_text().splitlines())
    }
    lone, many = values["sub/e"], np.mean([values[name] for name in "abcd"])
    # two groups: a resample holds one of them alone more often than 5 % of the time
    assert (low, high) == pytest.approx((min(lone, many), max(lone, many)), rel=1e-9)


def test_without_a_truth_only_naturalness_is_measured(folders):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)).save(
        folders / "near" / "large.png"
    )
    assert main(["evaluate", str(folders / "near"), "--out", str(folders / "out"), "--quiet"]) == 3
    found = _figures(folders)
    assert found["summaries"]["near"]["NIQE"]["count"] == 1
    assert "two blocks of 96×96" in found["missing"]["near"]["a"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--columns", "psnr,beauty"], "expected names of psnr, ssim, lpips"),
        (["--columns", "arcface"], "arcface: arcface_resnet18.pth is a download; give the folder"),
        (["--pattern", "x"], "expected {name} once in the pattern"),
        (["--pattern", "{name}_99"], "such as a_99; give --pattern"),
        (["--baseline", "other"], "expected one of near, far, got 'other'"),
        (["--report-by", "beauty"], "expected a column of PSNR, SSIM, got 'beauty'"),
        (["--batch", "0"], "--batch must be at least 1"),
    ],
)
def test_a_wrong_call_says_what_is_wrong(folders, capsys, words, said):
    assert main(_call(folders, *words)) == 2
    assert said in capsys.readouterr().err


def test_folders_that_do_not_fit_are_refused(folders, capsys):
    assert main(["evaluate", str(folders / "near"), "--official", "--out", str(folders / "out")]) == 2
    assert "give --truth" in capsys.readouterr().err
    assert main(["evaluate", str(folders / "none"), "--out", str(folders / "out")]) == 2
    assert "none is no folder" in capsys.readouterr().err
    Image.new("RGB", (4, 4)).save(folders / "near" / "a.jpg")
    assert main(_call(folders)) == 2
    assert "have one name; keep one of them" in capsys.readouterr().err


def _counted(monkeypatch) -> list[int]:
    from codeprior.evaluation import folders as module

    counts: list[int] = []
    original = module._measured

    def counting(works, *rest):
        counts.append(sum(len(work.pictures) for work in works))
        yield from original(works, *rest)

    monkeypatch.setattr(module, "_measured", counting)
    return counts

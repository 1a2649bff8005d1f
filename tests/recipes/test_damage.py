"""Faces damaged on purpose have the truth that was drawn, and the network fitted to them learns it."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from codeprior.degradations import Chain, GaussianBlur, GaussianNoise, Jpeg, Resize, ResizeBack, preset
from codeprior.estimators import Damage, DamageEstimator, load_estimator
from codeprior.estimators.damage import from_coordinates, to_coordinates
from codeprior.estimators.statistics import COUNT
from codeprior.recipes.damage import KINDS, fit, make_face, report, train
from codeprior.recipes.damage.faces import read_portraits, recorded_damage
from codeprior.recipes.damage.train import Set
from tests.estimators.test_statistics import textured


@pytest.fixture(scope="module")
def portraits(tmp_path_factory):
    """Gives a folder of made pictures with an index: two people a split, one enlarged from its file, one reduced."""
    folder = tmp_path_factory.mktemp("portraits")
    rows = []
    for number, (split, enlargement) in enumerate((s, e) for s in ("train", "val", "test") for e in (0.3, 1.2)):
        name = f"{split}{number}.png"
        pixels = (textured(256, number).permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / name)
        source = "somebody/congress" if enlargement > 1 else "somebody/else"
        rows.append({"id": name, "split": split, "source": source, "file": name, "enlargement": enlargement})
    with (folder / "index.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return folder


def test_the_truth_is_what_was_drawn():
    chain = Chain(
        ops=(
            GaussianBlur(size=(41,), sigma=(2, 2), isotropic=1), Resize(factor=(4, 4)), GaussianNoise(sigma=(7, 7)),
            Jpeg(quality=(60, 60)), ResizeBack(),
        )
    )  # fmt: skip
    drawn = chain.sample((256, 256), torch.Generator().manual_seed(0))
    assert recorded_damage(drawn) == pytest.approx((2, 4, 7, 60), rel=1e-3)


def test_a_blur_counts_as_wide_as_its_kernel_is():
    # a σ of 15 in 41 pixels is cut off, so that it blurs as a narrower one does
    wide = GaussianBlur(size=(41,), sigma=(15, 15), isotropic=1).sample((256, 256), torch.Generator().manual_seed(0))
    place = np.arange(-20, 21)
    weights = np.exp(-(place**2) / 450)
    expected = np.sqrt((weights * place**2).sum() / weights.sum())
    assert 9 < expected < 12
    assert recorded_damage(
        Chain(ops=(GaussianBlur(sigma=(15, 15), isotropic=1),)).sample((256, 256), torch.Generator())
    )[0] == (pytest.approx(expected))
    assert len(wide) == 1


def test_nothing_done_counts_as_nothing():
    drawn = preset("codeformer-I").sample((64, 64), torch.Generator().manual_seed(0))
    assert recorded_damage(drawn) == (0.0, 1.0, 0.0, 100.0)


def test_a_face_follows_from_its_key(portraits):
    there = read_portraits(portraits, "train")
    for key in range(12):
        one, again = make_face(there, key), make_face(there, key)
        assert torch.equal(one.face, again.face) and torch.equal(one.truth, again.truth)
        assert one.face.min() >= 0 and one.face.max() <= 1 and min(one.face.shape[2:]) >= 48
        assert 0 < float(one.truth[4]) <= 0.5 and float(one.truth[1]) >= 1
    assert not torch.equal(make_face(there, 1).truth, make_face(there, 2).truth)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_does_what_it_says(portraits, kind):
    there = read_portraits(portraits, "train")
    truths = torch.stack([make_face(there, key, kind=kind).truth for key in range(8)])
    blur, reduction, noise, quality, _ = truths.unbind(1)
    assert bool((blur > 0).any()) == (kind in ("blur", "daefr", "lcqs-severe", "phone", "mixed"))
    assert bool((noise > 0).any()) == (kind in ("noise", "daefr", "lcqs-moderate", "lcqs-severe", "phone", "mixed"))
    assert bool((quality < 100).any()) == (kind in ("jpeg", "daefr", "lcqs-mild", "phone", "mixed"))
    if kind.startswith("lcqs"):
        assert bool((reduction > 6).all())


def test_other_kinds_are_refused(portraits):
    with pytest.raises(ValueError, match="expected one of clean, daefr, .* got 'haze'"):
        make_face(read_portraits(portraits, "train"), 0, kind="haze")


def test_faces_that_are_there_are_not_made_again(portraits, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "_PART", 3)
    train.make(portraits, tmp_path, "val", 6)
    files = sorted(tmp_path.glob("val-*.safetensors"))
    contents = [file.read_bytes() for file in files]
    assert len(files) == 2
    files[1].unlink()
    files[0].touch()
    before = files[0].stat().st_mtime_ns
    train.make(portraits, tmp_path, "val", 6)
    assert files[0].stat().st_mtime_ns == before
    assert [file.read_bytes() for file in files] == contents
    assert len(train.read(tmp_path, "val").numbers) == 6
    assert len(train.read(tmp_path, "val", 3).numbers) == 3


def test_the_whole_command_writes_weights_that_load(portraits, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train, "_PART", 8)
    monkeypatch.setattr(train, "FACES", {"train": 8, "val": 8, "test": 8})
    call = ["--portraits", str(portraits), "--out", str(tmp_path), "--faces", "8", "--passes", "2"]
    assert train.main(call) == 0
    first = (tmp_path / "damage.safetensors").read_bytes()
    assert load_estimator(tmp_path / "damage.safetensors").config == {"class": "DamageEstimator", "width": 256}
    assert train.main(call) == 0  # the same seed, the same bits
    assert (tmp_path / "damage.safetensors").read_bytes() == first
    assert "second fit: pass 2" in capsys.readouterr().out
    weights, drawn = str(tmp_path / "damage.safetensors"), tmp_path / "limit.png"
    assert report.main(["--out", str(tmp_path), "--weights", weights, "--plot", str(drawn)]) == 0
    told = capsys.readouterr().out
    assert "| always the median | 8 |" in told and Image.open(drawn).size[0] > 300
    before = drawn.read_bytes()
    assert report.main(["--out", str(tmp_path), "--weights", weights, "--plot", str(drawn)]) == 2
    assert "exists already and is kept" in capsys.readouterr().err and drawn.read_bytes() == before


def test_wrong_folders_are_told(tmp_path, capsys):
    assert train.main(["--portraits", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "index.csv" in capsys.readouterr().err
    assert report.main(["--out", str(tmp_path)]) == 2
    assert "holds no made faces of the split 'test'" in capsys.readouterr().err


def _made(limits: list[float], trusted: list[bool]) -> Set:
    count = len(limits)
    truth = Damage(
        torch.zeros(count), torch.ones(count), torch.zeros(count), torch.full((count,), 100.0), torch.tensor(limits)
    )
    rows = fit.Rows(torch.zeros(count, COUNT), to_coordinates(truth))
    return Set(
        rows, torch.zeros(count).long(), torch.zeros(count).long(), torch.full((count,), 2.0), torch.tensor(trusted)
    )


def test_a_soft_file_lowers_the_limit_where_the_file_matters():
    part = _made([0.4, 0.4, 0.05], [True, False, False])
    # the file holds 0.3 cycles per pixel, and a pixel of it is two of the face
    lowered = from_coordinates(train.lowered(part, torch.tensor([0.3])).truth)
    assert lowered.limit.tolist() == pytest.approx([0.4, 0.15, 0.05])


def test_the_pinball_loss_is_least_at_the_quantiles():
    truth = torch.randn(20000, 5, generator=torch.Generator().manual_seed(0))
    right = torch.tensor([-1.2816, 0.0, 1.2816]).expand(20000, 5, 3)
    least = float(fit.pinball(right, truth))
    for shift in (torch.tensor([0.3, 0, 0]), torch.tensor([0, -0.3, 0]), torch.tensor([0, 0, 0.3])):
        assert float(fit.pinball(right + shift, truth)) > least


def test_a_fit_learns_what_the_numbers_say():
    generator = torch.Generator().manual_seed(0)
    statistics = torch.randn(1024, COUNT, generator=generator)
    truth = torch.stack([statistics[:, 10 + index] for index in range(5)], dim=1) - 2
    rows, held = fit.Rows(statistics[:768], truth[:768]), fit.Rows(statistics[768:], truth[768:])
    estimator = fit.fit(rows, held, passes=60, seed=0)
    with torch.no_grad():
        answers = estimator(held.statistics)
    found = torch.stack([torch.corrcoef(torch.stack([answers[:, k, 1], held.truth[:, k]]))[0, 1] for k in range(5)])
    assert bool((found > 0.5).all())
    assert bool((answers[..., 0] < answers[..., 1]).all()) and bool((answers[..., 1] < answers[..., 2]).all())


def test_calibrated_quantiles_leave_a_tenth_beyond_each():
    generator = torch.Generator().manual_seed(0)
    rows = fit.Rows(torch.randn(400, COUNT, generator=generator), 3 * torch.randn(400, 5, generator=generator))
    estimator = DamageEstimator(16).eval()
    fit.calibrate(estimator, rows)
    with torch.no_grad():
        low, _, high = estimator(rows.statistics).unbind(-1)
    assert bool(((rows.truth < low).float().mean(0) <= 0.11).all())
    assert ((rows.truth < low) | (rows.truth > high)).float().mean(0).numpy() == pytest.approx(0.2, abs=0.02)


def test_a_table_counts_what_is_exact():
    part = _made([0.4, 0.2, 0.1], [True, True, False])

    def always(limit: float):
        answer = to_coordinates(Damage(*(torch.tensor([v]) for v in (0.0, 1.0, 0.0, 100.0, limit))))
        return lambda statistics: answer[..., None].expand(len(statistics), 5, 3)

    clean, _, constant = report.rows(part, always(0.2))  # pyright: ignore[reportArgumentType]
    assert (clean.kind, clean.count, clean.exact) == ("clean", 3, 2)
    assert clean.inside == 0.5 and clean.blur == 0 and constant.limit == clean.limit
    assert "| clean | 3 | 0.00 | 0% | 0.00 | 0.0 |" in report.table([clean])

"""`codeprior verify` as a user calls it."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from codeprior.__main__ import main
from codeprior.commands import verify as command
from codeprior.metrics import Provenance, read_pairs
from codeprior.metrics import verify as judge


class _Mean:
    """An embedding whose truth is known: the mean colour."""

    record = Provenance(network="mean colour", weights="w", sha256="0" * 64)

    def __call__(self, faces):
        return faces.mean(dim=(2, 3))


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "_network", lambda arguments: (_Mean(), "length"))
    generator = np.random.default_rng(0)
    people = {f"{person}{picture}": person for person in range(6) for picture in range(2)}
    colours = generator.integers(60, 200, (6, 3))
    for folder, spread in (("clean", 2), ("blurred", 60)):
        (tmp_path / folder).mkdir()
        for name, person in people.items():
            colour = np.clip(colours[person] + generator.integers(-spread, spread + 1, 3), 0, 255)
            Image.fromarray(np.broadcast_to(colour, (8, 8, 3)).astype(np.uint8)).save(tmp_path / folder / f"{name}.png")
    names = list(people)
    rows = [(a, b, int(people[a] == people[b])) for place, a in enumerate(names) for b in names[place + 1 :]]
    (tmp_path / "pairs.csv").write_text("first,second,same\n" + "".join(f"{a}.png,{b},{same}\n" for a, b, same in rows))
    return tmp_path


def _call(folders, *words: str) -> int:
    paths = [str(folders / "pairs.csv"), f"before={folders / 'blurred'}", f"after={folders / 'clean'}"]
    return main(["verify", *paths, "--folds", "2", "--out", str(folders / "out"), *words])


def _colour(folders, folder: str, name: str) -> torch.Tensor:
    return torch.from_numpy(np.asarray(Image.open(folders / folder / f"{name}.png"))[0, 0] / 255.0)


def test_figures_are_those_of_the_embeddings(folders, capsys):
    assert _call(folders) == 0
    assert "| after | 1.0000 ± 0.0000 |" in capsys.readouterr().out
    found = json.loads((folders / "out" / "verification.json").read_text())
    pairs = [(a.removesuffix(".png"), b, same) for a, b, same in read_pairs(folders / "pairs.csv")]
    distances = [float((_colour(folders, "blurred", a) - _colour(folders, "blurred", b)).norm()) for a, b, _ in pairs]
    expected = judge(distances, [same for *_, same in pairs], folds=2)
    assert found["figures"]["before"]["area"] == pytest.approx(expected.area, abs=1e-12)
    assert found["figures"]["before"]["accuracy"] == pytest.approx(expected.accuracy, abs=1e-12)
    assert found["figures"]["after"]["true_accepts_at_1_percent"] == 1
    assert found["settings"]["network"]["colours"] == "rgb"
    rows = list(csv.DictReader((folders / "out" / "distances.csv").read_text().splitlines()))
    assert [float(row["before"]) for row in rows] == pytest.approx(distances, rel=1e-5)
    assert (folders / "out" / "roc.png").read_bytes()[:4] == b"\x89PNG"


def test_a_gallery_gives_the_first_of_each_pair(folders):
    assert _call(folders, "--gallery", str(folders / "clean"), "--quiet") == 0
    rows = list(csv.DictReader((folders / "out" / "distances.csv").read_text().splitlines()))
    first = rows[0]["first"].removesuffix(".png"), rows[0]["second"]
    expected = float((_colour(folders, "clean", first[0]) - _colour(folders, "blurred", first[1])).norm())
    assert float(rows[0]["before"]) == pytest.approx(expected, rel=1e-5)


def test_pairs_without_a_picture_are_left_out_of_every_folder_and_named(folders, capsys):
    (folders / "clean" / "00.png").unlink()
    (folders / "blurred" / "10.png").write_bytes(b"not a picture")
    assert _call(folders, "--quiet") == 3
    said = capsys.readouterr().err
    assert "after: 00.png: is missing" in said and "before: 10: " in said
    found = json.loads((folders / "out" / "verification.json").read_text())
    assert found["settings"]["judged"] == {"same": 4, "different": 10 * 9 // 2 - 4}


def test_wrong_calls_end_with_two(folders, capsys):
    assert _call(folders, "--folds", "7") == 2
    assert "at least 7 pairs of either kind" in capsys.readouterr().err
    assert main(["verify", str(folders / "none.csv"), str(folders / "clean")]) == 2
    assert main(["verify", str(folders / "pairs.csv"), str(folders / "pairs")]) == 2
    assert "is no folder" in capsys.readouterr().err

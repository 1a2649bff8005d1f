"""Every installed family restores faces and photographs, leaves sharp faces alone, and says what it did."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

import codeprior as cp
from codeprior.__main__ import main
from codeprior.families import family_names, family_of, installed_families
from codeprior.photos import read
from codeprior.photos.faces import align, detector
from codeprior.photos.restoration import Choices, restore_photo
from codeprior.restorers import Restorer, entropy
from tests import small_families as small


class Case(NamedTuple):
    """A small model of a family.

    Attributes:
        family: Its name.
        build: Gives the model, untrained.
        predicts: Whether it predicts codes, so that it knows how sure it is.
    """

    family: str
    build: Callable[[], Any]
    predicts: bool = False


def _daefr():
    from codeprior.recipes.daefr import settings
    from codeprior.recipes.daefr.model import restorer, vqgan

    network = replace(
        settings.small_network(), size=32, dim=8, codes=16, channels=8, multipliers=(1, 2), groups=4, fusion_groups=4,
        fusion_heads=2, width=16, layers=1, heads=2, hidden=16,
    )  # fmt: skip
    return restorer(settings.RestorationRecipe(network=network), vqgan(network).prior())


def _gpen(**changes: Any):
    from codeprior.recipes.gpen import settings
    from codeprior.recipes.gpen.model import gpen

    return gpen(replace(settings.small_network(), **({"size": 32, "dim": 8, "layers": 2, "narrow": 1 / 64} | changes)))


def _gfpgan():
    from codeprior.recipes.gfpgan.model import fresh

    return fresh(32, dim=16, narrow=1 / 16)


def _lcqs():
    from codeprior.recipes.lcqs import settings
    from codeprior.recipes.lcqs.model import fresh

    return fresh(
        replace(
            settings.small_network(), size=32, dim=8, narrow=1 / 64, backbone="test_resnet", stride=4, cells=2, hidden=6
        )
    )


CASES = {
    "codeformer": Case("codeformer", small.codeformer, predicts=True),
    "daefr": Case("daefr", _daefr, predicts=True),
    "gfpgan": Case("gfpgan", _gfpgan),
    "gpen": Case("gpen", _gpen),
    "gpen, twice the size": Case("gpen", lambda: _gpen(input_size=16)),
    "lcqs": Case("lcqs", _lcqs),
    "restoreformer": Case("restoreformer", lambda: small.restoreformer(size=32)),
    "restoreformer++": Case("restoreformer", lambda: small.restoreformer(plus=True, size=32)),
    "vqfr v1": Case("vqfr", lambda: small.vqfr1(size=32)),
    "vqfr v2": Case("vqfr", lambda: small.vqfr2(size=32), predicts=True),
    "vqfr v2, nearest codes": Case("vqfr", lambda: small.vqfr2(predicted=False, size=32)),
}
every_family = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def _model(case: Case) -> Any:
    torch.manual_seed(0)
    return case.build().eval()


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """Gives a photograph with one sharp face, `256 256 3`, 8-bit levels."""
    whole = read(Path(cp.__file__).parent / "commands" / "astronaut.webp").pixels
    return np.array(Image.fromarray(whole).resize((256, 256), Image.Resampling.BOX))


@pytest.fixture(scope="module")
def soft(photo) -> np.ndarray:
    """Gives the same photograph after a reduction by 12, so that nothing is left of its face that could be kept."""
    reduced = Image.fromarray(photo).resize((21, 21), Image.Resampling.BOX)
    return np.array(reduced.resize((256, 256), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def faces(photo):
    """Gives what the detector finds in the sharp photograph; the soft one has its face at the same place."""
    found = detector()(photo)
    assert len(found) == 1
    return found


def test_no_installed_family_is_left_out():
    # models of spandrel are other projects'; tests/restorers/test_peers.py is about them
    assert {case.family for case in CASES.values()} == set(family_names()) - {"spandrel"}
    for case in CASES.values():
        assert family_of(_model(case)) == case.family


@every_family
def test_a_single_face_is_what_the_model_makes_of_it_in_the_type_in_which_it_came(case, photo, faces):
    model = _model(case)
    restorer = Restorer(model)
    face = align(photo, faces[0].points, size=restorer.size).image[None]
    side = restorer.size * restorer.scale
    wanted = cp.to_unit(model.restore(cp.to_signed(face)))
    found = restorer(face, always=True)
    assert found.shape == (1, 3, side, side) and float(found.std()) > 0
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
    levels = (face[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    picture = restorer(Image.fromarray(levels), always=True)
    assert picture.size == (side, side)
    assert np.array_equal(np.asarray(picture), restorer(levels, always=True))
    of_levels = restorer(torch.from_numpy(levels).permute(2, 0, 1)[None], always=True)
    assert np.array_equal(of_levels[0].permute(1, 2, 0).numpy(), np.asarray(picture))


@every_family
def test_a_photograph_gets_its_face_restored_and_keeps_the_rest_to_the_bit(case, photo, faces):
    restorer = Restorer(_model(case))
    done = restore_photo(photo, restorer, faces=faces, choices=Choices(always=True))
    face = align(photo, faces[0].points, size=restorer.size).image
    torch.testing.assert_close(done.after[0], restorer(face[None], always=True)[0], rtol=0, atol=1e-4)
    answer = restorer.photograph(Image.fromarray(photo), faces=faces, always=True)
    assert np.array_equal(np.asarray(answer), done.pixels)
    changed = (np.asarray(answer) != photo).any(-1)
    left, top, right, bottom = map(int, faces[0].box)
    assert changed[top:bottom, left:right].mean() > 0.9
    away = np.ones_like(changed)  # the aligned square is less than three boxes wide
    wide, high = right - left, bottom - top
    away[max(0, top - high) : bottom + high, max(0, left - wide) : right + wide] = False
    assert away.any() and not changed[away].any()


@every_family
def test_a_sharp_face_is_left_untouched_with_the_reason_and_a_soft_one_is_not(case, photo, soft, faces):
    restorer = Restorer(_model(case))
    side = restorer.size * restorer.scale
    kept = restore_photo(photo, restorer, faces=faces)
    assert kept.untouched and np.array_equal(kept.pixels, photo)
    (decision,) = kept.decisions
    assert decision is not None and decision.action == "left"
    assert decision.reason == f"sharper than {restorer.size} px can show; nothing to mend"
    mended = restore_photo(soft, restorer, faces=faces)
    assert not mended.untouched and not np.array_equal(mended.pixels, soft)
    # the same for faces by themselves, one of each in a batch
    pair = torch.stack([align(picture, faces[0].points, size=96).image for picture in (photo, soft)])
    examined = restorer.examine(pair)
    assert [decision.action == "left" for decision in examined.decisions] == [True, False]
    small_ones = torch.nn.functional.interpolate(pair, size=(side, side), mode="area")
    torch.testing.assert_close(examined.images[0], small_ones[0], rtol=0, atol=1e-6)
    assert float((examined.images[1] - small_ones[1]).abs().max()) > 0.01
    if case.predicts:  # nobody asked the model about the face that was left
        assert examined.uncertainty is not None and float(examined.uncertainty[0].abs().max()) == 0


@every_family
def test_a_model_that_predicts_codes_says_where_it_guessed_and_no_other_claims_to_know(case, photo, faces):
    model = _model(case)
    restorer = Restorer(model)
    face = align(photo, faces[0].points, size=restorer.size).image[None]
    found = restorer.examine(face, always=True).uncertainty
    if not case.predicts:
        assert found is None
        return
    with torch.no_grad():
        wanted = entropy(model(cp.to_signed(face)).logits)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
    assert found.shape == (1, restorer.size // model.stride, restorer.size // model.stride)
    assert 0 < float(found.max()) <= 1


@every_family
def test_the_command_reports_what_was_done_with_each_face(case, photo, soft, faces, tmp_path: Path):
    """Weights from a file, whose header alone says the family; one photograph is left as it is and one restored."""
    cp.save(tmp_path / "weights.safetensors", _model(case))
    (tmp_path / "in").mkdir()
    for name, pixels in (("sharp", photo), ("soft", soft)):
        Image.fromarray(pixels).save(tmp_path / "in" / f"{name}.png")
    points = {f"{name}.png": [faces[0].points.tolist()] for name in ("sharp", "soft")}
    (tmp_path / "points.json").write_text(json.dumps(points))
    call = ["restore", tmp_path / "in", tmp_path / "out", "--weights", tmp_path / "weights.safetensors", "--quiet"]
    call += ["--landmarks", tmp_path / "points.json", "--report", tmp_path / "report.jsonl", "--compare"]
    assert main([str(word) for word in call + ["--uncertainty"] * case.predicts]) == 0
    lines = map(json.loads, (tmp_path / "report.jsonl").read_text().splitlines())
    said = {Path(line["input"]).stem: line for line in lines}
    sharp, mended = (said[name]["faces"][0] for name in ("sharp", "soft"))
    assert (said["sharp"]["status"], said["soft"]["status"]) == ("untouched", "restored")
    assert "nothing to mend" in said["sharp"]["reason"] and sharp["decision"] == "left" and not sharp["restored"]
    assert (tmp_path / "out" / "sharp.png").read_bytes() == (tmp_path / "in" / "sharp.png").read_bytes()
    assert mended["restored"] and mended["decision"] in ("mended", "restored") and mended["reason"]
    assert mended["damage"]["limit"] < sharp["damage"]["limit"]
    assert ("uncertainty" in mended) == case.predicts and "uncertainty" not in sharp
    assert (tmp_path / "out" / "soft.uncertainty.png").exists() == case.predicts
    assert Image.open(tmp_path / "out" / "soft.compare.png").width > 256
    restored = restore_photo(
        soft,
        Restorer(_model(case)),
        faces=cp.photos.faces.from_landmarks(points["soft.png"]),
        choices=Choices(colour=True),
    )
    assert np.array_equal(read(tmp_path / "out" / "soft.png").pixels, restored.pixels)


def _gpen_for(task: str):
    from codeprior.recipes.gpen.model import GPEN

    torch.manual_seed(0)
    return GPEN(32, dim=8, layers=2, narrow=1 / 64, task=task)


TASKED: dict[str, Callable[[str], Any]] = {
    "codeformer": lambda task: small.codeformer(task=task),
    "gpen": _gpen_for,
}


@pytest.mark.parametrize("name", TASKED)
def test_tasks_change_what_they_are_asked_to_in_a_real_photograph_and_nothing_else(name, photo, faces, tmp_path: Path):
    assert {family.name for family in installed_families() if family.tasks} == set(TASKED)
    for task in ("inpainting", "colourisation"):
        cp.save(tmp_path / f"{task}.safetensors", TASKED[name](task))
    mask = np.zeros(photo.shape[:2], dtype=np.uint8)
    x, y = faces[0].points[2].astype(int)
    mask[y - 6 : y + 6, x - 8 : x + 8] = 255
    grey = (align(photo, faces[0].points, size=64).image.mean(0, keepdim=True).expand(3, -1, -1) * 255).round()
    for given, pixels in (("photo", photo), ("mask", mask), ("grey", grey.permute(1, 2, 0).to(torch.uint8).numpy())):
        Image.fromarray(pixels).save(tmp_path / f"{given}.png")

    def run(task: str, weights: str, given: str, *words: str) -> np.ndarray:
        call = ["restore", tmp_path / f"{given}.png", tmp_path / f"{task}.png", "--task", task]
        assert main([*map(str, call), "--weights", str(tmp_path / f"{weights}.safetensors"), *words]) == 0
        return read(tmp_path / f"{task}.png").pixels

    filled = run("inpaint", "inpainting", "photo", "--mask", str(tmp_path / "mask.png"))
    changed = (filled != photo).any(-1)
    assert not changed[mask == 0].any() and changed[mask > 0].mean() > 0.9
    coloured = run("colourise", "colourisation", "grey", "--aligned").astype(int)
    assert coloured.shape == (64, 64, 3) and np.abs(coloured[..., 0] - coloured[..., 2]).max() > 5


@pytest.mark.parametrize("name", ["restoreformer", "vqfr v1", "gpen"])
def test_a_map_that_the_model_cannot_give_is_refused_in_words(name, soft, tmp_path: Path, capsys):
    cp.save(tmp_path / "weights.safetensors", _model(CASES[name]))
    Image.fromarray(soft).save(tmp_path / "soft.png")
    call = ["restore", tmp_path / "soft.png", tmp_path / "out.png", "--weights", tmp_path / "weights.safetensors"]
    assert main([*map(str, call), "--aligned", "--always", "--uncertainty"]) == 3
    assert "the model does not say where it guessed; leave --uncertainty out" in capsys.readouterr().err
    assert not (tmp_path / "out.png").exists() and not (tmp_path / "out.uncertainty.png").exists()

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from codeprior import metrics
from codeprior.evaluation import DegradedCache, Method, TestSet, build, run
from codeprior.metrics import Journal, psnr, psnr_measure, ssim_measure
from tests.recipes.coarse import coarse_faces


@pytest.fixture
def faces(tmp_path) -> Path:
    return coarse_faces(tmp_path / "faces", "abcde", cells=6, side=48)


def _small(faces: Path, **changes) -> TestSet:
    return build(faces, **{"preset": "daefr", "seed": 3, "degradation_size": 96} | changes)


def _run(faces: Path, sets, methods=(), **changes):
    given = {"measures": [psnr_measure()], "size": 24, "degradation_size": 96, "batch": 2}
    return run(faces, sets, list(methods), **given | changes)


def _grey(image: torch.Tensor) -> torch.Tensor:
    return torch.full_like(image, 0.5)


def test_figures_are_those_of_the_restored_pixels(faces):
    made = _small(faces)
    methods = [Method(name="same", restore=lambda image: image), Method(name="grey", restore=_grey)]
    found = _run(faces, [made], methods, measures=[psnr_measure(), ssim_measure()]).results["daefr"]
    pairs = next(made.batches(faces, size=24))
    assert list(found.values) == ["input", "same", "grey"]
    assert found.values["same"] == found.values["input"]
    assert found.column("grey", "PSNR") == psnr(_grey(pairs.clean), pairs.clean).tolist()
    assert found.column("input", "PSNR") == psnr(pairs.degraded, pairs.clean).tolist()


def test_methods_are_shown_what_they_take(faces):
    made, shown = [_small(faces), _small(faces, preset="clean")], {}

    def taken(name):
        def restore(image):
            shown.setdefault(name, []).append(image)
            return torch.nn.functional.interpolate(image, size=(24, 24), mode="area")

        return Method(name=name, restore=restore, takes=name)

    found = _run(faces, made, [taken("degraded"), taken("large"), taken("clean")])
    assert {name: {one.shape[-1] for one in images} for name, images in shown.items()} == {
        "degraded": {24}, "large": {96}, "clean": {24},
    }  # fmt: skip
    assert sum(len(one) for one in shown["degraded"]) == 2 * 5
    # the clean face is the same under every condition, and is reconstructed once
    assert sum(len(one) for one in shown["clean"]) == 5
    assert found.results["daefr"].values["clean"] == found.results["clean"].values["clean"]
    assert found.results["daefr"].values["large"] == found.results["daefr"].values["input"]
    assert torch.isinf(torch.tensor(found.results["daefr"].column("clean", "PSNR"))).all()


def test_faces_that_cannot_be_read_are_named_and_in_no_mean(faces):
    (faces / "f.png").write_bytes(b"not a picture")
    made = _small(faces)
    assert list(made.unreadable) == ["f.png"]
    Image.new("RGB", (48, 48)).save(faces / "b.png")
    (faces / "d.png").unlink()
    found = _run(faces, [made])
    results = found.results["daefr"]
    assert set(results.missing["input"]) == set(found.gone) == {"b", "d"}
    assert results.missing["input"]["b"] == "is not the picture that it was when the set was built"
    assert results.summaries()["input"]["PSNR"].count == 3


def test_what_is_measured_is_not_run_again_and_a_new_method_costs_itself(faces, tmp_path):
    made, ran = _small(faces), []

    def method(name: str, stamp: str) -> Method:
        def restore(images):
            ran.append((name, len(images)))
            return images * (0.5 if stamp == "x" else 0.9)

        return Method(name=name, restore=restore, stamp=stamp)

    def measured(stamps: dict[str, str], part: TestSet = made):
        ran.clear()
        with Journal(tmp_path / "journal.jsonl", key={}) as journal:
            methods = [method(name, stamp) for name, stamp in stamps.items()]
            return _run(faces, [part], methods, journal=journal).results["daefr"].values

    first = measured({"a": "x"}, _small(faces, limit=2))
    assert sum(count for _, count in ran) == 2
    whole = measured({"a": "x"})
    # batches of two, of which one has a face that is known
    assert sum(count for _, count in ran) == 3
    assert whole["a"].items() >= first["a"].items()
    assert list(whole["a"]) == list("abcde")
    both = measured({"a": "x", "b": "y"})
    assert {name for name, _ in ran} == {"b"}
    assert (both["a"], both["input"]) == (whole["a"], whole["input"])
    assert measured({"a": "y", "b": "y"})["a"] == both["b"]
    assert {name for name, _ in ran} == {"a"}
    measured({"a": "y", "b": "y"}, _small(faces, seed=4))
    assert {name for name, _ in ran} == {"a", "b"}
    measured({"a": ""})
    measured({"a": ""})
    assert ran, "a method without a stamp is never taken as measured"


def test_embeddings_are_kept_for_verification_and_come_from_the_journal(faces, tmp_path):
    record = metrics.Provenance(network="mean colours")
    measure = metrics.identity_measure(_Colours(record))
    made, found = _small(faces), []
    for _ in range(2):
        with Journal(tmp_path / "journal.jsonl", key={}) as journal:
            methods = [Method(name="grey", restore=_grey, stamp="grey")]
            found.append(_run(faces, [made], methods, measures=[measure], journal=journal).embeddings["daefr"])
    pairs = next(made.batches(faces, size=24))
    clean, grey = (measure.look(metrics.eight_bit(image)) for image in (pairs.clean, _grey(pairs.clean)))
    for one in found:
        assert set(one) == {"input", "grey", "clean"}
        assert torch.allclose(torch.stack([one["clean"][name] for name in "abcde"]), clean)
        assert torch.allclose(torch.stack([one["grey"][name] for name in "abcde"]), grey)


class _Colours:
    def __init__(self, record):
        self.record = record

    def __call__(self, images):
        return images.mean(dim=(2, 3))


def test_degraded_faces_are_read_from_the_cache_instead_of_degraded(faces, tmp_path):
    made = _small(faces)
    calls = []

    class Counted(TestSet):
        def degrade(self, names, large):
            calls.append(len(names))
            return super().degrade(names, large)

    counted = Counted(**{name: getattr(made, name) for name in made.__dataclass_fields__})
    plain = _run(faces, [made]).results["daefr"].values
    first = DegradedCache(tmp_path / "cache")
    assert _run(faces, [counted], cache=first).results["daefr"].values == plain
    assert (sum(calls), first.found) == (5, 0)
    again = DegradedCache(tmp_path / "cache")
    assert _run(faces, [counted], cache=again).results["daefr"].values == plain
    assert (sum(calls), again.found) == (5, 5)
    # another draw is another face; a damaged file is degraded anew
    _run(faces, [replace(counted, drawn=_small(faces, seed=4).drawn)], cache=again)
    assert (sum(calls), again.found) == (10, 5)
    for path in (tmp_path / "cache").rglob("*.png"):
        path.write_bytes(path.read_bytes()[:100])
    assert _run(faces, [counted], cache=again).results["daefr"].values == plain
    assert sum(calls) == 15


def test_faces_off_the_grid_of_levels_are_not_cached(tmp_path):
    cache = DegradedCache(tmp_path)
    cache.put("ab", torch.full((1, 3, 4, 4), 0.5))
    assert cache.get("ab") is None
    levels = torch.arange(48).view(1, 3, 4, 4) / 255
    cache.put("cd", levels)
    found = cache.get("cd")
    assert found is not None and torch.equal(found, levels)


def test_conditions_of_different_faces_are_refused(faces):
    with pytest.raises(ValueError, match="all of the same faces"):
        _run(faces, [_small(faces), _small(faces, limit=2)])
    with pytest.raises(ValueError, match="one condition or more"):
        _run(faces, [])

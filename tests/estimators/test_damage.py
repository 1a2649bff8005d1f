"""What is promised of the estimator that comes with the library, on faces of people it has never seen."""

import itertools
from importlib import resources

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import codeprior
from codeprior.degradations import Chain, GaussianBlur, GaussianNoise, Jpeg, Op, Resize, ResizeBack, Round
from codeprior.estimators import Damage, DamageEstimator, load_estimator
from codeprior.estimators.damage import from_coordinates, to_coordinates
from codeprior.weights import read_metadata
from tests.shared import shared_path

OWN = resources.files("codeprior.estimators") / "weights" / "damage.safetensors"


@pytest.fixture(scope="module")
def estimator() -> DamageEstimator:
    return load_estimator()


@pytest.fixture(scope="module")
def faces() -> torch.Tensor:
    """Gives twelve sharp faces of the test split, `12 3 256 256`: each was reduced at least twofold from its file."""
    from codeprior.recipes.damage.faces import read_portraits

    there = read_portraits(shared_path("data/portraits"), "test")
    sharp = [
        file for file, grown in zip(there.files, there.enlargement, strict=True) if grown < 0.45 and "256" in str(file)
    ]
    read = [codeprior.photos.read(file).pixels for file in sharp[:: max(1, len(sharp) // 12)][:12]]
    return torch.from_numpy(np.stack(read)).permute(0, 3, 1, 2).float() / 255


def damaged(faces: torch.Tensor, *ops: Op) -> torch.Tensor:
    result = Chain(ops=(*ops, Round()))(faces, generator=torch.Generator().manual_seed(0))
    assert isinstance(result, torch.Tensor)
    return result


def means(damage: Damage) -> dict[str, float]:
    return {name: float(part.mean()) for name, part in damage._asdict().items()}


def test_more_blur_means_a_lower_limit(estimator, faces):
    found = [means(estimator.estimate(faces))] + [
        means(estimator.estimate(damaged(faces, GaussianBlur(sigma=(sigma, sigma), isotropic=1))))
        for sigma in (1, 2, 4, 8)
    ]
    assert all(a["limit"] > 1.3 * b["limit"] for a, b in itertools.pairwise(found))
    assert all(a["blur"] < b["blur"] for a, b in itertools.pairwise(found))


def test_more_noise_means_a_lower_limit(estimator, faces):
    found = [means(estimator.estimate(damaged(faces, GaussianNoise(sigma=(s, s))))) for s in (0, 4, 10, 25)]
    assert all(a["limit"] > b["limit"] for a, b in itertools.pairwise(found))
    assert all(a["noise"] < b["noise"] for a, b in itertools.pairwise(found))


def test_stronger_compression_means_a_lower_quality_and_limit(estimator, faces):
    found = [means(estimator.estimate(damaged(faces, Jpeg(quality=(q, q))))) for q in (95, 75, 50, 25)]
    assert all(a["quality"] > b["quality"] for a, b in itertools.pairwise(found))
    assert found[0]["limit"] > found[1]["limit"] > found[3]["limit"]


def test_more_reduction_means_a_lower_limit(estimator, faces):
    found = [
        means(estimator.estimate(damaged(faces, Resize(factor=(f, f), interpolation="area"), ResizeBack())))
        for f in (1.5, 3, 6)
    ]
    assert all(a["limit"] > 1.3 * b["limit"] for a, b in itertools.pairwise(found))
    assert all(a["reduction"] < b["reduction"] for a, b in itertools.pairwise(found))


def test_an_enlarged_face_holds_no_more_than_it_did(estimator, faces):
    enlarged = F.interpolate(faces, size=(512, 512), mode="bicubic").clamp(0, 1)
    limits = estimator.estimate(damaged(enlarged)).limit
    assert 0.19 < float(limits.median()) < 0.27  # 256 pixels of detail are 0.25 cycles per pixel of 512


def test_errors_on_faces_never_seen_stay_within_bounds(estimator):
    from codeprior.recipes.damage.faces import make_face, read_portraits

    there = read_portraits(shared_path("data/portraits"), "test")
    made = [one for one in (make_face(there, 10**9 + key) for key in range(100)) if one.trusted]
    assert len(made) > 30
    answers = [estimator.examine(one.face) for one in made]
    found = torch.cat([to_coordinates(answer.damage) for answer in answers])
    truth = to_coordinates(Damage(*torch.stack([one.truth for one in made]).unbind(1)))
    octaves = (found - truth).abs().median(0).values  # of 1 + blur, reduction, 1 + noise, 101 - quality, limit
    assert bool((octaves < torch.tensor([0.35, 0.3, 0.35, 0.6, 0.22])).all()), octaves
    low, high = (torch.cat([part.limit for part in ends]) for ends in zip(*((a.low, a.high) for a in answers)))
    inside = ((truth[:, 4].exp2() >= low * 0.999) & (truth[:, 4].exp2() <= high * 1.001)).float().mean()
    assert 0.6 < float(inside) <= 1.0  # four in five are promised


def test_a_grey_face_is_judged_as_its_colours_are(estimator, faces):
    blurred = damaged(faces, GaussianBlur(sigma=(2, 2), isotropic=1))
    luma = (blurred * blurred.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    colour, grey = (
        estimator.estimate(image).limit.log2() for image in (blurred, damaged(luma.expand(-1, 3, -1, -1).clone()))
    )
    assert float((grey - colour).abs().median()) < 0.3


@pytest.mark.parametrize("side", [32, 48, 64])
def test_tiny_faces_are_judged(estimator, faces, side):
    small = F.interpolate(faces, size=(side, side), mode="area")
    sharp = estimator.estimate(damaged(small))
    soft = estimator.estimate(damaged(small, GaussianBlur(size=(21,), sigma=(2, 2), isotropic=1)))
    assert float(sharp.limit.median()) > 0.3 > 0.17 > float(soft.limit.median())


def test_large_faces_are_judged(estimator, faces):
    large = F.interpolate(faces[:2], size=(1800, 1800), mode="bicubic").clamp(0, 1)
    limits = estimator.estimate(damaged(large)).limit
    # 256 of 1,800 pixels: 0.071
    assert bool((limits < 0.1).all()) and bool((limits > 0.05).all())


def test_a_batch_is_judged_as_its_faces_are_one_by_one(estimator, faces):
    batch, again = estimator.examine(faces[:4]), estimator.examine(faces[:4])
    alone = [estimator.examine(face[None]) for face in faces[:4]]
    for part in ("damage", "low", "high"):
        for name in Damage._fields:
            value = getattr(getattr(batch, part), name)
            assert value.shape == (4,) and torch.equal(value, getattr(getattr(again, part), name))
            one_by_one = torch.cat([getattr(getattr(one, part), name) for one in alone])
            # a matrix product of four rows adds up in another order than one of a single row
            torch.testing.assert_close(value, one_by_one, rtol=1e-4, atol=1e-4)


def test_quantiles_are_in_order_and_in_range(estimator, faces):
    examined = estimator.examine(damaged(faces, GaussianNoise(sigma=(8, 8)), Jpeg(quality=(60, 60))))
    for name in Damage._fields:
        low, middle, high = (getattr(part, name) for part in (examined.low, examined.damage, examined.high))
        assert bool((low <= middle).all()) and bool((middle <= high).all())
    assert bool((examined.high.limit <= 0.5).all()) and bool((examined.low.reduction >= 1).all())
    assert bool((examined.low.quality >= 1).all()) and bool((examined.high.quality <= 100).all())


def test_no_face_gives_no_estimate(estimator):
    assert estimator.estimate(torch.zeros(0, 3, 64, 64)).limit.shape == (0,)


@pytest.mark.parametrize(
    ("faces", "error", "text"),
    [
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), TypeError, "got torch.uint8; divide 8-bit levels by 255"),
        (
            torch.zeros(3, 64, 64),
            ValueError,
            r"expected faces `b 3 H W`, got \(3, 64, 64\); give RGB, and a batch of one",
        ),
        (torch.zeros(1, 1, 64, 64), ValueError, r"got \(1, 1, 64, 64\); give RGB"),
        (torch.zeros(1, 3, 31, 64), ValueError, "sides of 32 to 4096 pixels, got 64×31; cut the face out"),
        (torch.zeros(1, 3, 32, 4097), ValueError, "sides of 32 to 4096 pixels, got 4097×32"),
        (torch.full((1, 3, 64, 64), -1.0), ValueError, r"unit faces, \[0, 1\], got -1 to -1; codeprior.to_unit"),
        (torch.full((1, 3, 64, 64), float("nan")), ValueError, "unit faces"),
    ],
)
def test_what_is_no_face_is_refused(estimator, faces, error, text):
    with pytest.raises(error, match=text):
        estimator.estimate(faces)


def test_coordinates_lead_there_and_back():
    damage = Damage(*(torch.tensor(part) for part in ([0, 2.5], [1, 4.0], [0, 12.0], [100, 35.0], [0.5, 0.03])))
    for there, back in zip(damage, from_coordinates(to_coordinates(damage)), strict=True):
        torch.testing.assert_close(back, there.float(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("side", [64, 200])
def test_coordinates_are_those_of_the_estimate_and_have_a_gradient(estimator, faces, side):
    seen = faces[:2, :, :side, :side].clone().requires_grad_(True)
    found = estimator.coordinates(seen)
    assert torch.allclose(from_coordinates(found.detach()).limit, estimator.estimate(seen).limit)
    for column in range(5):
        (gradient,) = torch.autograd.grad(found[:, column].sum(), seen, retain_graph=True)
        assert bool(gradient.isfinite().all())
        assert bool((gradient.abs().amax((1, 2, 3)) > 0).all())
    assert estimator.coordinates(seen[:0]).shape == (0, 5)


def test_a_step_along_the_gradient_of_the_noise_makes_a_face_look_noisier(estimator, faces):
    seen = damaged(faces[:1], GaussianNoise(sigma=(10, 10)))[..., :64, :64].clone().requires_grad_(True)
    noise = estimator.coordinates(seen)[0, 2]
    (gradient,) = torch.autograd.grad(noise, seen)
    moved = seen.detach() + 1e-3 * gradient.sign()
    assert float(estimator.coordinates(moved)[0, 2].detach()) > float(noise.detach())


def test_coordinates_take_what_a_generator_gives_and_no_other_shape(estimator, faces):
    # a generator's answers leave [0, 1], which an estimate refuses
    assert bool(estimator.coordinates(faces[:1, :, :64, :64] * 1.5 - 0.2).isfinite().all())
    with pytest.raises(ValueError, match="expected faces `b 3 H W`"):
        estimator.coordinates(faces[0])
    with pytest.raises(TypeError, match="expected floating-point faces"):
        estimator.coordinates((faces[:1] * 255).byte())


def test_the_weights_are_small_and_say_what_they_are():
    with resources.as_file(OWN) as path:
        assert path.stat().st_size <= 2 * 1024**2
        header = read_metadata(path)
        stored = codeprior.load(path, dtype=None)
    assert header["licence"] == "CC BY 4.0"
    assert all(
        name in header["attribution"] for name in ("Entrepreneurs", "rOpenSci", "MetaDocencia", "Code for Germany")
    )
    assert {value.dtype for value in stored.state_dict().values()} == {torch.float16}
    card = (resources.files("codeprior.estimators") / "weights" / "README.md").read_text(encoding="utf-8")
    assert "CC BY 4.0" in card and "removed" in card and "identif" in card


def test_the_store_loads_the_same_network(estimator, faces):
    with resources.as_file(OWN) as path:
        stored = codeprior.load(path)
    assert isinstance(stored, DamageEstimator)
    assert torch.equal(stored.estimate(faces[:1]).limit, estimator.estimate(faces[:1]).limit)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.safetensors does not exist"):
        load_estimator(tmp_path / "none.safetensors")
    torn = tmp_path / "torn.safetensors"
    with resources.as_file(OWN) as path:
        torn.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="is not a whole safetensors file"):
        load_estimator(torn)
    other = tmp_path / "other.safetensors"
    codeprior.save(other, codeprior.PatchGAN(8))
    with pytest.raises(ValueError, match="does not describe a DamageEstimator"):
        load_estimator(other)
    small = tmp_path / "small.safetensors"
    narrow = DamageEstimator(8)
    narrow.layers = nn.Sequential(nn.Linear(3, 3))
    codeprior.save(small, narrow)
    with pytest.raises(ValueError, match="does not fit"):
        load_estimator(small)


def test_loading_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    load_estimator()
    assert torch.equal(torch.get_rng_state(), before)

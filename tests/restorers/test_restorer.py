"""Any model with a size and `restore` is made usable: picture types, sizes, batches and where it guessed."""

import io
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from codeprior.estimators import Damage
from codeprior.families import Option
from codeprior.photos.faces import from_landmarks, template
from codeprior.restorers import Restorer, entropy
from tests.photos.corpus import scene


class _Said(NamedTuple):
    logits: torch.Tensor


class _Darker(nn.Module):
    """Halves every signed value, and enlarges where its scale says so; says logits where it is given any."""

    stride = 8

    def __init__(self, size: int = 32, scale: int = 1, logits: torch.Tensor | None = None):
        super().__init__()
        self.size, self.scale, self.logits = size, scale, logits
        self.calls, self.batches = 0, []

    def forward(self, signed):
        assert self.logits is not None
        self.calls += 1
        return _Said(self.logits.expand(len(signed), *self.logits.shape[1:]))

    def restore(self, signed):
        assert signed.shape[1:] == (3, self.size, self.size)
        self.batches.append(len(signed))
        if self.logits is not None:
            self(signed)
        return F.interpolate(signed / 2, scale_factor=float(self.scale), mode="nearest")


class _Says:
    """An estimator that says the same of every face, and counts the sizes that it saw."""

    def __init__(self, **figures: float):
        self.figures = {"blur": 0.0, "reduction": 1.0, "noise": 0.0, "quality": 100.0, "limit": 0.5} | figures
        self.seen: list[tuple[int, ...]] = []

    def estimate(self, faces):
        self.seen.append(tuple(faces.shape))
        return Damage(**{name: torch.full((len(faces),), value) for name, value in self.figures.items()})


class _Told(_Darker):
    """Takes a fidelity, and fills the face with it."""

    def __init__(self, taps: object = True):
        super().__init__()
        self.taps = taps

    def restore(self, signed, *, fidelity: float = 0.5):
        self.batches.append(len(signed))
        return torch.full_like(signed, 2 * fidelity - 1)


def _colour(value: float) -> nn.Module:
    """Gives a model whose every face is one bluish colour."""

    class Constant(nn.Module):
        size, scale, stride = 32, 1, 8

        def restore(self, signed):
            return torch.tensor([value - 0.5, value, value + 0.5]).view(3, 1, 1).expand_as(signed).clone()

    return Constant()


class _Silent(_Darker):
    """Restores without calling itself."""

    def restore(self, signed):
        return signed / 2


class _OnlyRestores(nn.Module):
    size = 16

    def restore(self, signed):
        return signed


def test_a_model_is_given_signed_faces_of_its_size_in_batches():
    model = _Darker()
    faces = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    restored = Restorer(model, batch=2)(faces, always=True)
    assert torch.allclose(restored, 0.25 + faces / 2, atol=1e-6)
    assert model.batches == [2, 2, 1]


def test_larger_faces_shrink_by_area_and_the_answer_has_the_models_size():
    faces = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    restored = Restorer(_Darker())(faces, always=True)
    assert torch.allclose(restored, 0.25 + F.avg_pool2d(faces, 2) / 2, atol=1e-6)


def test_a_model_may_give_a_larger_face_than_it_takes():
    restorer = Restorer(_Darker(scale=2))
    assert (restorer.size, restorer.scale) == (32, 2)
    pixels = np.full((50, 40, 3), 100, np.uint8)
    restored = restorer(pixels, always=True)
    assert restored.shape == (64, 64, 3)
    assert (restored == round(255 * (0.25 + 100 / 255 / 2))).all()
    assert restorer(Image.fromarray(pixels), always=True).size == (64, 64)


def test_tensors_of_levels_come_back_as_levels():
    levels = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    restored = Restorer(_Darker())(levels, always=True)
    assert restored.dtype == torch.uint8
    assert torch.equal(restored, ((0.25 + levels.float() / 255 / 2) * 255).round().to(torch.uint8))
    assert torch.equal(Restorer(_Darker())([levels], always=True)[0], restored)


def test_doubt_is_the_entropy_of_the_codes_and_costs_one_forward():
    certain, even = torch.tensor([100.0, 0, 0, 0]), torch.zeros(4)
    model = _Darker(logits=torch.stack([certain, even]).view(1, 1, 2, 4))
    doubt = Restorer(model).examine(torch.rand(3, 3, 32, 32), always=True).uncertainty
    assert doubt is not None
    assert torch.allclose(doubt, torch.tensor([0.0, 1.0]).expand(3, 1, 2), atol=1e-5)
    assert model.calls == 1


def test_doubt_of_residual_codes_is_the_mean_over_their_tables():
    tables = torch.stack([torch.tensor([100.0, 0, 0, 0]), torch.zeros(4)]).view(1, 2, 1, 1, 4)
    assert torch.allclose(entropy(tables), torch.full((1, 1, 1), 0.5), atol=1e-5)
    with pytest.raises(ValueError, match=r"expected logits b h w k or b m h w k, got shape \(4, 4\)"):
        entropy(torch.zeros(4, 4))


def test_a_model_that_restores_without_its_forward_is_asked_for_logits_afterwards():
    model = _Silent(logits=torch.zeros(1, 2, 2, 4))
    doubt = Restorer(model).examine(torch.rand(1, 3, 32, 32), always=True).uncertainty
    assert doubt is not None
    assert (doubt == 1).all()
    assert model.calls == 1


def test_a_model_that_can_only_restore_says_no_doubt():
    face = torch.rand(1, 3, 16, 16)
    restored = Restorer(_OnlyRestores()).examine(face, always=True)
    assert restored.uncertainty is None
    assert torch.allclose(restored.images, face, atol=1e-6)


def test_a_restorer_says_what_it_is_in_a_line():
    assert repr(Restorer(_Darker(), batch=4)) == "Restorer(_Darker, 32 px, cpu, batch 4)"
    assert repr(Restorer(_Darker(scale=4))) == "Restorer(_Darker, 32 to 128 px, cpu, batch 8)"


def test_what_was_restored_is_printed_in_a_line_and_shown():
    examined = Restorer(_Darker(), estimator=_Says(**_SHARP)).examine(torch.rand(2, 3, 96, 96))
    assert repr(examined) == "Restored(images 2×3×32×32 float32, uncertainty unknown, 2 left)"
    with Image.open(io.BytesIO(examined._repr_png_())) as shown:
        assert shown.size == (64, 32)


def test_models_that_cannot_restore_are_refused_by_name():
    with pytest.raises(TypeError, match=r"expected a model with restore\(signed\), got Linear"):
        Restorer(nn.Linear(2, 2))
    model = _OnlyRestores()
    model.size = None  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(TypeError, match="_OnlyRestores does not say its size; give it `size`"):
        Restorer(model)


_SHARP, _SOFT, _GONE = {"limit": 0.4}, {"limit": 0.05, "blur": 3.75}, {"limit": 0.01}


def _face(side: int = 96) -> torch.Tensor:
    return torch.from_numpy(scene(side, side)).permute(2, 0, 1).float() / 255


def test_a_face_sharper_than_the_model_comes_back_as_it_was():
    model, estimator = _Darker(), _Says(**_SHARP)
    restorer = Restorer(model, estimator=estimator)
    examined = restorer.examine(_face()[None])
    assert torch.equal(examined.images, F.interpolate(_face()[None], size=(32, 32), mode="area"))
    assert model.batches == []
    assert estimator.seen == [(1, 3, 96, 96)]  # at its own resolution, not the model's
    (decision,) = examined.decisions
    assert decision.action == "left"
    assert decision.reason == "sharper than 32 px can show; nothing to mend"
    assert examined.damage is not None and examined.damage.limit.tolist() == pytest.approx([0.4])
    assert torch.allclose(restorer(_face(), always=True), 0.25 + restorer(_face()) / 2, atol=1e-6)


def test_a_face_between_keeps_its_shading_and_a_hopeless_one_nothing():
    face = _face()
    small = F.interpolate(face[None], size=(32, 32), mode="area")[0]
    soft = Restorer(_colour(0.0), estimator=_Says(**_SOFT))(face)
    gone = Restorer(_colour(0.0), estimator=_Says(**_GONE))(face)
    assert torch.allclose(gone, torch.tensor([0.25, 0.5, 0.75]).view(3, 1, 1).expand_as(gone), atol=1e-6)
    # 4.8 cycles a face are the face's own: means over an eighth of it differ little, the model's by far more
    apart = [(F.adaptive_avg_pool2d(one - small, 2)).abs().max() for one in (soft, gone)]
    assert apart[0] < 0.02 < 0.1 < apart[1]


def test_a_batch_holds_faces_of_every_decision_in_order():
    class Mixed(_Says):
        def estimate(self, faces):
            self.figures["limit"] = float(faces.mean())
            return super().estimate(faces)

    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(3, 3, 96, 96, generator=generator) - 0.5
    faces = noise * 0.01 + torch.tensor([0.45, 0.005, 0.4]).view(3, 1, 1, 1)
    examined = Restorer(_colour(0.0), estimator=Mixed()).examine(list(faces.clamp(0, 1)))
    assert [decision.action for decision in examined.decisions] == ["left", "restored", "left"]
    assert (examined.images[0] - 0.45).abs().max() < 0.01
    assert (examined.images[2] - 0.4).abs().max() < 0.01


def test_fidelity_goes_to_models_that_take_one():
    restorer = Restorer(_Told(), estimator=_Says(**_GONE))
    assert torch.allclose(restorer(_face(), fidelity=0.8, always=True), torch.tensor(0.8), atol=1e-6)
    assert torch.allclose(Restorer(_Told(taps=None))(_face(), fidelity=0.8, always=True), torch.tensor(0.5), atol=1e-6)
    # auto: the taps as they were trained, at weight 1
    assert torch.allclose(restorer(_face()), torch.tensor(1.0), atol=1e-6)
    model = _Told()
    Restorer(model).restore(torch.rand(5, 3, 32, 32), fidelities=[0.1, 0.9, 0.11, 0.9, None])
    assert sorted(model.batches) == [1, 2, 2]
    with pytest.raises(ValueError, match="fidelity must be auto or a number from 0 to 1, got 3"):
        restorer(_face(), fidelity=3)


def test_auto_tells_a_model_the_fidelity_that_it_declares_as_its_default():
    model = _Told()
    model.option_types = {"fidelity": Option(float, 0.3, 0.0, 1.0, "how much")}
    assert torch.allclose(Restorer(model, estimator=_Says(**_GONE))(_face()), torch.tensor(0.3), atol=1e-6)


def test_every_face_may_have_a_fidelity_of_its_own():
    faces = torch.stack([_face(), _face()])
    restored = Restorer(_Told())(faces, fidelity=torch.tensor([0.2, 0.9]), always=True)
    assert torch.allclose(restored, torch.tensor([0.2, 0.9]).view(2, 1, 1, 1).expand_as(restored), atol=1e-6)
    with pytest.raises(ValueError, match=r"expected one number for each of 2 faces, got shape \(3,\)"):
        Restorer(_Told())(faces, fidelity=torch.zeros(3))


def test_fidelity_one_is_the_picture():
    small = F.interpolate(_face()[None], size=(32, 32), mode="area")[0]
    restored = Restorer(_colour(0.0), estimator=_Says(**_SOFT))(_face(), fidelity=1)
    assert torch.allclose(restored, small, atol=1e-5)


@pytest.mark.parametrize("figures", [_SHARP, _SOFT, _GONE])
def test_a_grey_face_stays_grey_and_the_model_is_given_grey(figures):
    grey = (_face() * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0).expand(3, -1, -1)
    restored = Restorer(_colour(0.2), estimator=_Says(**figures))(grey)
    assert (restored.amax(0) - restored.amin(0)).max() < 1e-6
    always = Restorer(_colour(0.2))(grey, always=True)
    assert (always.amax(0) - always.amin(0)).max() < 1e-6


def test_a_photograph_keeps_every_byte_of_a_face_that_is_left():
    pixels = scene(220, 260)
    faces = from_landmarks([(template(180) + (30, 20)).tolist()])
    restorer = Restorer(_Darker(), estimator=_Says(**_SHARP))
    assert np.array_equal(restorer.photograph(pixels, faces=faces), pixels)
    assert not np.array_equal(restorer.photograph(pixels, faces=faces, always=True), pixels)


def test_the_estimator_sees_the_photographs_own_pixels():
    pixels = scene(220, 260)
    estimator = _Says(**_SHARP)
    Restorer(_Darker(), estimator=estimator).photograph(
        pixels, faces=from_landmarks([(template(180) + (30, 20)).tolist()])
    )
    assert estimator.seen == [(1, 3, 180, 180)]


def test_a_mended_face_is_put_together_at_the_photographs_resolution():
    """A model of 32 px that says nothing: the slow detail of a face of 180 px is kept, finer than 32 px can hold."""
    y, x = np.mgrid[:220, :220]
    waves = 128 + 60 * np.sin(2 * np.pi * x * 20 / 180)  # 20 cycles in the face; 32 px show 16
    pixels = np.repeat(waves[..., None], 3, 2).round().astype(np.uint8)
    pixels[..., 0] = (128 + 60 * np.sin(2 * np.pi * y * 20 / 180)).round()  # colours, so that no tint is found
    faces = from_landmarks([(template(180) + (20, 20)).tolist()])
    restorer = Restorer(_colour(0.0), estimator=_Says(limit=20 / 180, noise=9.0, blur=1.0))
    (decision,) = [restorer.judge(torch.rand(3, 180, 180))]
    assert decision.action == "mended"
    done = restorer.photograph(pixels, faces=faces).astype(float)
    middle = (slice(80, 140), slice(80, 140))
    assert done[middle].std() > 0.8 * pixels[middle].astype(float).std()

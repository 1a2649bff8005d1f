"""Any model with a size and `restore` is made usable: picture types, sizes, batches and where it guessed."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from codeprior.restorers import Restorer, entropy


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
    restored = Restorer(model, batch=2)(faces)
    assert torch.allclose(restored, 0.25 + faces / 2, atol=1e-6)
    assert model.batches == [2, 2, 1]


def test_larger_faces_shrink_by_area_and_the_answer_has_the_models_size():
    faces = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    restored = Restorer(_Darker())(faces)
    assert torch.allclose(restored, 0.25 + F.avg_pool2d(faces, 2) / 2, atol=1e-6)


def test_a_model_may_give_a_larger_face_than_it_takes():
    restorer = Restorer(_Darker(scale=2))
    assert (restorer.size, restorer.scale) == (32, 2)
    pixels = np.full((50, 40, 3), 100, np.uint8)
    restored = restorer(pixels)
    assert restored.shape == (64, 64, 3)
    assert (restored == round(255 * (0.25 + 100 / 255 / 2))).all()
    assert restorer(Image.fromarray(pixels)).size == (64, 64)


def test_tensors_of_levels_come_back_as_levels():
    levels = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    restored = Restorer(_Darker())(levels)
    assert restored.dtype == torch.uint8
    assert torch.equal(restored, ((0.25 + levels.float() / 255 / 2) * 255).round().to(torch.uint8))
    assert torch.equal(Restorer(_Darker())([levels])[0], restored)


def test_doubt_is_the_entropy_of_the_codes_and_costs_one_forward():
    certain, even = torch.tensor([100.0, 0, 0, 0]), torch.zeros(4)
    model = _Darker(logits=torch.stack([certain, even]).view(1, 1, 2, 4))
    doubt = Restorer(model).examine(torch.rand(3, 3, 32, 32)).uncertainty
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
    doubt = Restorer(model).examine(torch.rand(1, 3, 32, 32)).uncertainty
    assert doubt is not None
    assert (doubt == 1).all()
    assert model.calls == 1


def test_a_model_that_can_only_restore_says_no_doubt():
    face = torch.rand(1, 3, 16, 16)
    restored = Restorer(_OnlyRestores()).examine(face)
    assert restored.uncertainty is None
    assert torch.allclose(restored.images, face, atol=1e-6)


def test_a_restorer_says_what_it_is_in_a_line():
    assert repr(Restorer(_Darker(), batch=4)) == "Restorer(_Darker, 32 px, cpu, batch 4)"
    assert repr(Restorer(_Darker(scale=4))) == "Restorer(_Darker, 32 to 128 px, cpu, batch 8)"


def test_models_that_cannot_restore_are_refused_by_name():
    with pytest.raises(TypeError, match=r"expected a model with restore\(signed\), got Linear"):
        Restorer(nn.Linear(2, 2))
    model = _OnlyRestores()
    model.size = None  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(TypeError, match="_OnlyRestores does not say its size; give it `size`"):
        Restorer(model)

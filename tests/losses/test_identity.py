"""Identity: what the network is shown, and how two embeddings are compared."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeprior.losses import IdentityLoss


class _Shown(nn.Module):
    """Gives back what it was shown, as the embedding."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))
        self.dropout = nn.Dropout()

    def forward(self, crop: Tensor) -> Tensor:
        return self.dropout(self.gain * crop.flatten(1))


def _faces(side: int = 16, seed: int = 0) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(seed))


def test_cosine_distance_ignores_length():
    loss, face = IdentityLoss(_Shown(), size=8), _faces()
    # float32 rounding of a cosine near one
    assert loss(3 * face, face).item() == pytest.approx(0, abs=1e-6)
    assert loss(-face, face).item() == pytest.approx(2, abs=1e-6)


def test_distances_are_the_written_out_formulas():
    first, second = _faces(), _faces(seed=1)
    cosine, absolute = IdentityLoss(_Shown(), size=8), IdentityLoss(_Shown(), size=8, distance="absolute")
    a, b = cosine.embed(first), cosine.embed(second)
    truth = (1 - (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))).mean()
    assert cosine(first, second).item() == pytest.approx(truth.item(), rel=1e-6)
    assert absolute(first, second).item() == pytest.approx((a - b).abs().mean().item(), rel=1e-6)


def test_grey_is_the_weighted_sum_of_channels():
    face = _faces(side=8)
    shown = IdentityLoss(_Shown(), size=8).embed(face).reshape(2, 8, 8)
    assert torch.allclose(shown, 0.2989 * face[:, 0] + 0.587 * face[:, 1] + 0.114 * face[:, 2], atol=1e-6)


def test_window_of_gpen_is_cut_and_averaged():
    face = _faces(side=512)
    window = (35 / 256, 223 / 256, 32 / 256, 220 / 256)
    loss = IdentityLoss(_Shown(), size=112, grey=False, window=window, resample="area")
    # gan_family.md: rows 35ss…−33ss, columns 32ss…−36ss with ss = size // 256
    truth = F.adaptive_avg_pool2d(face[:, :, 70:-66, 64:-72], 112)
    assert torch.equal(loss.embed(face), truth.flatten(1))


def test_the_network_is_frozen_and_the_image_is_not():
    loss = nn.Sequential(IdentityLoss(_Shown(), size=4)).train()[0]
    face = _faces().requires_grad_()
    loss(face, _faces(seed=1)).backward()
    assert loss.network.gain.grad is None
    assert not loss.network.dropout.training
    assert face.grad.abs().sum() > 0


def test_gradient_passes_gradcheck():
    loss = IdentityLoss(_Shown(), size=3).double()
    target = _faces(side=4, seed=1).double()
    assert torch.autograd.gradcheck(lambda x: loss(x, target), (_faces(side=4).double().requires_grad_(),))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"resample": "cubic"}, "resample is 'bilinear' or 'area', got 'cubic'"),
        ({"distance": "angle"}, "distance is 'cosine' or 'absolute', got 'angle'"),
        ({"window": (0.5, 0.5, 0, 1)}, "top < bottom, left < right"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, text: str):
    with pytest.raises(ValueError, match=text):
        IdentityLoss(_Shown(), **arguments)

"""Each term of a loss against its written-out formula, and its gradient against finite differences."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from codeprior.losses import (
    association_loss,
    code_accuracy,
    code_loss,
    codebook_loss,
    generator_adversarial_loss,
    hinge_discriminator_loss,
)


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_each_codebook_weight_moves_its_own_side():
    latent, codes = _normal(2, 3, 4, 5).requires_grad_(), _normal(2, 3, 4, 5, seed=1).requires_grad_()
    codebook_loss(latent, codes, commitment=0.7, codebook=0.2).backward()
    pull = 2 * (latent - codes).detach() / latent.numel()
    assert torch.allclose(latent.grad, 0.7 * pull)
    assert torch.allclose(codes.grad, -0.2 * pull)


def test_default_codebook_weights_sum_to_the_reference_value():
    latent, codes = _normal(1, 2, 3, 3), _normal(1, 2, 3, 3, seed=1)
    assert codebook_loss(latent, codes).item() == pytest.approx(1.25 * ((latent - codes) ** 2).mean().item(), rel=1e-12)


def test_codebook_loss_names_shapes_that_differ():
    with pytest.raises(ValueError, match=r"codebook_loss: expected latent and codes of one shape, got \(1, 2, 3, 3\)"):
        codebook_loss(torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 3, 4))


@given(st.integers(1, 3), st.integers(1, 4), st.integers(2, 9), st.integers(0, 999), st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_code_loss_is_the_mean_surprise(batch: int, side: int, codes: int, seed: int, smoothing: float):
    logits = _normal(batch, side, side + 1, codes, seed=seed)
    indices = torch.randint(codes, (batch, side, side + 1), generator=torch.Generator().manual_seed(seed))
    chance = logits.exp() / logits.exp().sum(-1, keepdim=True)
    target = (1 - smoothing) * (indices[..., None] == torch.arange(codes)).double() + smoothing / codes
    truth = -(target * chance.log()).sum(-1).mean()
    assert code_loss(logits, indices, label_smoothing=smoothing).item() == pytest.approx(truth.item(), abs=1e-12)


def test_code_accuracy_counts_hits():
    logits = torch.eye(4).reshape(1, 2, 2, 4)
    assert code_accuracy(logits, torch.tensor([[[0, 1], [2, 0]]])).item() == 0.75


@pytest.mark.parametrize("loss", [code_loss, code_accuracy])
def test_logits_and_indices_must_share_a_grid(loss):
    with pytest.raises(ValueError, match=rf"{loss.__name__}: expected logits b h w k and indices b h w on one grid"):
        loss(torch.zeros(1, 2, 2, 5), torch.zeros(1, 2, 3, dtype=torch.long))


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.floats(0.1, 20), st.integers(0, 999))
@settings(max_examples=25, deadline=None)
def test_association_is_the_mean_of_both_cross_entropies(batch: int, height: int, width: int, scale: float, seed: int):
    first, second = _normal(batch, 4, height, width, seed=seed), _normal(batch, 4, height, width, seed=seed + 1)
    places = [(b, y, x) for b in range(batch) for y in range(height) for x in range(width)]

    def cosine(i: tuple[int, int, int], j: tuple[int, int, int]) -> float:
        mine, other = first[i[0], :, i[1], i[2]], second[j[0], :, j[1], j[2]]
        return ((mine * other).sum() / (mine.norm() * other.norm())).item()

    table = [[scale * cosine(i, j) for j in places] for i in places]
    rows = [math.log(sum(map(math.exp, row))) - row[i] for i, row in enumerate(table)]
    columns = [math.log(sum(map(math.exp, column))) - column[i] for i, column in enumerate(zip(*table, strict=True))]
    truth = (sum(rows) + sum(columns)) / (2 * len(places))
    assert association_loss(first, second, scale=scale).item() == pytest.approx(truth, abs=1e-10)


def test_association_passes_gradcheck_through_both_latents_and_the_scale():
    first, second = _normal(2, 3, 2, 2).requires_grad_(), _normal(2, 3, 2, 2, seed=1).requires_grad_()
    scale = torch.tensor(2.5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b, c: association_loss(a, b, scale=c), (first, second, scale))


def test_association_of_one_process_does_not_depend_on_whose_negatives():
    first, second = _normal(2, 3, 2, 2), _normal(2, 3, 2, 2, seed=1)
    local = association_loss(first, second, scale=3.0)
    assert association_loss(first, second, scale=3.0, negatives="global") == local


def test_association_of_zeros_is_chance():
    zeros = torch.zeros(2, 4, 3, 3)
    assert association_loss(zeros, zeros, scale=5.0).item() == pytest.approx(math.log(18), rel=1e-6)


def test_association_refuses_unpaired_latents_and_unknown_negatives():
    with pytest.raises(
        ValueError, match=r"expected paired latents of one shape b d h w, got \(1, 2, 2, 2\) and \(2, 2, 2, 2\)"
    ):
        association_loss(torch.zeros(1, 2, 2, 2), torch.zeros(2, 2, 2, 2), scale=1)
    with pytest.raises(ValueError, match="negatives is 'local' or 'global', got 'all'"):
        association_loss(torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 2), scale=1, negatives="all")  # pyright: ignore[reportArgumentType]


def test_hinge_losses_have_their_written_out_values():
    real, fake = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-3.0, 0.0, 0.5, 1.0])
    assert hinge_discriminator_loss(real, fake).item() == pytest.approx(0.5 * (2.5 / 3 + 4.5 / 4))
    assert generator_adversarial_loss(fake).item() == pytest.approx(1.5 / 4)

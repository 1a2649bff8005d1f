"""R1, the path length and the logistic losses against forms written by hand."""

import math

import pytest
import torch
from torch.nn import functional as F

from codeprior.discriminators import StyleGANDiscriminator
from codeprior.generators import SynthesisNetwork
from codeprior.losses import (
    feature_matching_loss,
    logistic_discriminator_loss,
    logistic_generator_loss,
    path_length_penalty,
    path_lengths,
    r1_penalty,
)


def _normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_logistic_losses_are_cross_entropies():
    real, fake = _normal(5, 1), _normal(5, 1, seed=1)
    ones, zeros = torch.ones(5, 1).double(), torch.zeros(5, 1).double()
    cross = F.binary_cross_entropy_with_logits
    torch.testing.assert_close(logistic_discriminator_loss(real, fake), cross(real, ones) + cross(fake, zeros))
    torch.testing.assert_close(logistic_generator_loss(fake), cross(fake, ones))
    assert logistic_discriminator_loss(zeros, zeros).item() == pytest.approx(2 * math.log(2))


def test_feature_matching_sums_mean_differences_and_leaves_the_real_side_alone():
    made, real = [_normal(2, 3, 4, 4).requires_grad_(), _normal(2, 1).requires_grad_()], [_normal(2, 3, 4, 4, seed=1)]
    real.append(_normal(2, 1, seed=2).requires_grad_())
    loss = feature_matching_loss(made, real)
    expected = sum((a - b).abs().sum() / a.numel() for a, b in zip(made, real, strict=True))
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert real[1].grad is None
    torch.testing.assert_close(made[1].grad, (made[1] - real[1]).detach().sign() / 2)
    with pytest.raises(ValueError, match="expected as many layers of both, got 2 of made and 1 of real images"):
        feature_matching_loss(made, real[:1])


def test_r1_of_a_quadratic_score_is_known():
    # D(x) = a · x + ½ k |x|²: the gradient is a + k x
    images, slope = _normal(3, 3, 4, 4).requires_grad_(), _normal(3, 4, 4, seed=1)
    factor = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    scores = ((images * slope).sum((1, 2, 3)) + factor / 2 * images.square().sum((1, 2, 3)))[:, None]
    penalty = r1_penalty(scores, images)
    gradient = slope + factor * images
    torch.testing.assert_close(penalty, gradient.square().sum((1, 2, 3)).mean())
    penalty.backward()
    by_hand = (2 * gradient * images).sum((1, 2, 3)).mean().detach()
    torch.testing.assert_close(factor.grad, by_hand)


def test_r1_of_a_discriminator_is_its_finite_difference():
    torch.manual_seed(0)
    judge = StyleGANDiscriminator(8, narrow=1 / 128).double()
    images = _normal(1, 3, 8, 8).requires_grad_()
    penalty = r1_penalty(judge(images), images)
    total, step = 0.0, 1e-6
    with torch.no_grad():
        for place in range(images.numel()):
            moved = torch.zeros(images.numel()).double()
            moved[place] = step
            moved = moved.view_as(images)
            total += ((judge(images + moved) - judge(images - moved)).item() / (2 * step)) ** 2
    assert penalty.item() == pytest.approx(total, rel=1e-6)
    penalty.backward()
    # what the last bias adds does not depend on the image
    assert judge.score.bias.grad is None and judge.score.weight.grad.abs().sum() > 0


def test_path_lengths_of_a_linear_generator_are_known():
    styles, weight = _normal(2, 3, 4).requires_grad_(), _normal(4, 3 * 8 * 8, seed=1)
    images = (styles.sum(1) @ weight).view(2, 3, 8, 8)
    draw = _normal(2, 3, 8, 8, seed=2)
    # every slot has the same gradient, so the mean over slots is that of one
    expected = (weight @ (draw.flatten(1) / 8).T).norm(dim=0)
    torch.testing.assert_close(path_lengths(images, styles, draw=draw), expected)


def test_path_lengths_draw_from_their_generator_and_can_be_differentiated():
    torch.manual_seed(0)
    synthesis = SynthesisNetwork(8, dim=4, narrow=1 / 128).double()
    styles = _normal(2, 4, 4).requires_grad_()
    images = synthesis(styles)
    drawn = torch.randn(images.shape, generator=torch.Generator().manual_seed(3)).double()
    lengths = path_lengths(images, styles, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(lengths, path_lengths(images, styles, draw=drawn))
    path_length_penalty(lengths, torch.zeros(()).double()).penalty.backward()
    assert synthesis.constant.grad.isfinite().all() and synthesis.constant.grad.abs().sum() > 0
    with pytest.raises(ValueError, match="path_lengths: expected generator= or draw=, got neither"):
        path_lengths(images, styles)


def test_the_running_mean_moves_by_its_share():
    lengths = torch.tensor([1.0, 3.0], requires_grad=True)
    found = path_length_penalty(lengths, torch.tensor(1.0), decay=0.25)
    assert found.mean.item() == 1.25 and not found.mean.requires_grad
    assert found.penalty.item() == pytest.approx(((1 - 1.25) ** 2 + (3 - 1.25) ** 2) / 2)
    found.penalty.backward()
    # d/dl_i of mean (l_j − m)², with m moving by an eighth for each length
    apart = torch.tensor([1 - 1.25, 3 - 1.25])
    torch.testing.assert_close(lengths.grad, apart - 0.125 * apart.sum())

"""Style: the Gram matrix written out, what it knows and what it does not."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codeprior.losses import PerceptualLoss, gram, style_loss


def _map(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(0, 99))
@settings(max_examples=20)
def test_gram_is_the_written_out_sum(batch: int, channels: int, height: int, width: int, seed: int):
    features = _map(batch, channels, height, width, seed=seed)
    for b in range(batch):
        for i in range(channels):
            for j in range(channels):
                truth = (features[b, i] * features[b, j]).sum() / (channels * height * width)
                assert gram(features)[b, i, j].item() == pytest.approx(truth.item(), abs=1e-12)


def test_where_things_are_does_not_matter():
    features = _map(2, 3, 4, 5)
    moved = features.flatten(2)[..., torch.randperm(20, generator=torch.Generator().manual_seed(1))].reshape(2, 3, 4, 5)
    assert style_loss([moved], [features]).item() == pytest.approx(0, abs=1e-15)


def test_layers_are_weighed_and_summed():
    first, second = [_map(1, 2, 3, 3), _map(1, 4, 2, 2, seed=1)], [_map(1, 2, 3, 3, seed=2), _map(1, 4, 2, 2, seed=3)]
    each = [(gram(a) - gram(b)) for a, b in zip(first, second, strict=True)]
    absolute = style_loss(first, second, layer_weights=(0.5, 2))
    squared = style_loss(first, second, distance="squared")
    assert absolute.item() == pytest.approx((0.5 * each[0].abs().mean() + 2 * each[1].abs().mean()).item(), rel=1e-12)
    assert squared.item() == pytest.approx((each[0].pow(2).mean() + each[1].pow(2).mean()).item(), rel=1e-12)


def test_gradient_passes_gradcheck():
    target = [_map(1, 2, 2, 3, seed=1)]
    assert torch.autograd.gradcheck(
        lambda x: style_loss([x], target, distance="squared"), (_map(1, 2, 2, 3).requires_grad_(),)
    )


def test_it_takes_the_perceptual_networks_maps():
    torch.manual_seed(0)
    network = PerceptualLoss("mobilenet_v2", weights="random")
    image, target = torch.randn(2, 1, 3, 32, 32).unbind()
    loss = style_loss(network.features(image.requires_grad_()), network.features(target))
    loss.backward()
    assert image.grad.abs().sum() > 0


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="expected as many maps of either and weights, got 1, 2, 1"):
        style_loss([_map(1, 1, 1, 1)], [_map(1, 1, 1, 1)] * 2)
    with pytest.raises(ValueError, match="distance is 'absolute' or 'squared', got 'cubed'"):
        style_loss([_map(1, 1, 1, 1)], [_map(1, 1, 1, 1)], distance="cubed")  # pyright: ignore[reportArgumentType]

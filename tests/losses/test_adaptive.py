"""The adaptive weight: the formula, the cut form against the whole walk, and one process against two."""

import socket
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codeprior.losses import (
    adaptive_weight,
    association_loss,
    cut_adaptive_weight,
    last_layer_gradients,
    loss_at_image,
    watch_input,
    weight_of_gradients,
)


class _Maker(nn.Module):
    def __init__(self, **geometry):
        super().__init__()
        self.body = nn.Conv2d(3, 8, 3, padding=1)
        self.last_layer = nn.Conv2d(8, 3, 3, **{"padding": 1, **geometry})

    def forward(self, image: Tensor) -> Tensor:
        return self.last_layer(F.silu(self.body(image)))


def _parts(**geometry) -> tuple[_Maker, nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    maker, judge = _Maker(**geometry).double(), nn.Conv2d(3, 1, 4, 2, 1).double().requires_grad_(False)
    images = torch.randn(4, 3, 12, 10, dtype=torch.float64)
    return maker, judge, images, F.avg_pool2d(images, 3, 1, 1)


def _wanted(image: Tensor, target: Tensor) -> Tensor:
    return F.smooth_l1_loss(image, target)


def test_weight_is_the_ratio_of_gradient_norms():
    maker, judge, images, target = _parts()
    made = maker(images)
    weight = adaptive_weight(_wanted(made, target), -judge(made).mean(), last_layer=maker.last_layer)
    norms = []
    for loss in (lambda: _wanted(maker(images), target), lambda: -judge(maker(images)).mean()):
        maker.zero_grad()
        loss().backward()
        norms.append(maker.last_layer.weight.grad.pow(2).sum().sqrt().item())
    assert weight.item() == pytest.approx(norms[0] / (norms[1] + 1e-4), rel=1e-12)
    assert not weight.requires_grad


@pytest.mark.parametrize(
    "geometry", [{}, {"padding": 0}, {"kernel_size": 1, "padding": 0}, {"dilation": 2, "padding": 2}]
)
def test_cut_form_gives_the_same_weight_and_the_same_gradients(geometry: dict):
    if "kernel_size" in geometry:
        maker, judge, images, _ = _parts()
        maker.last_layer = nn.Conv2d(8, 3, 1).double()
    else:
        maker, judge, images, _ = _parts(**geometry)
    target = torch.zeros_like(maker(images))

    made = maker(images)
    wanted, fooling = _wanted(made, target), -judge(made).mean()
    whole = adaptive_weight(wanted, fooling, last_layer=maker.last_layer)
    (wanted + 0.8 * whole * fooling).backward()
    truth = [parameter.grad.clone() for parameter in maker.parameters()]
    maker.zero_grad()

    with watch_input(maker.last_layer) as entering:
        made = maker(images)
    wanted = loss_at_image(made, lambda image: _wanted(image, target))
    fooling = loss_at_image(made, lambda image: -judge(image).mean())
    cut = cut_adaptive_weight(wanted.gradient, fooling.gradient, entering=entering[-1], last_layer=maker.last_layer)
    made.backward(wanted.gradient + 0.8 * cut * fooling.gradient)

    # float64: what is left is the order of summation
    assert cut.item() == pytest.approx(whole.item(), rel=1e-12)
    for parameter, expected in zip(maker.parameters(), truth, strict=True):
        assert torch.allclose(parameter.grad, expected, rtol=1e-11, atol=1e-14)


def test_the_mean_pull_of_parts_gives_the_weight_of_the_batch():
    maker, judge, images, target = _parts()

    def pulls(images, target):
        with watch_input(maker.last_layer) as entering:
            made = maker(images)
        wanted = loss_at_image(made, lambda image: _wanted(image, target)).gradient
        fooling = loss_at_image(made, lambda image: -judge(image).mean()).gradient
        return last_layer_gradients(wanted, fooling, entering=entering[-1], last_layer=maker.last_layer)

    halves = [pulls(*half) for half in zip(images.chunk(2), target.chunk(2), strict=True)]
    whole = weight_of_gradients(pulls(images, target))
    # float64: what is left is the order of summation
    assert weight_of_gradients(torch.stack(halves).mean(0)).item() == pytest.approx(whole.item(), rel=1e-12)
    assert torch.stack([weight_of_gradients(half) for half in halves]).mean().item() != pytest.approx(
        whole.item(), rel=1e-6
    )


def test_weight_is_clamped_and_a_silent_judge_does_not_divide_by_zero():
    maker, _, images, target = _parts()
    made = maker(images)
    wanted = loss_at_image(made, lambda image: _wanted(image, target)).gradient
    weight = cut_adaptive_weight(
        wanted,
        torch.zeros_like(wanted),
        entering=torch.randn(4, 8, 12, 10).double(),
        last_layer=maker.last_layer,
        limit=3,
    )
    assert weight.item() == 3


def test_nothing_behind_the_image_is_walked():
    image = torch.randn(1, 3, 4, 4, requires_grad=True)
    value, gradient = loss_at_image(image * 2, lambda made: (made**2).sum())
    assert image.grad is None
    assert not value.requires_grad
    assert torch.allclose(gradient, image * 4)


def test_watching_ends_with_the_context():
    layer = nn.Conv2d(2, 2, 1)
    with watch_input(layer) as seen:
        layer(torch.zeros(1, 2, 3, 3))
    layer(torch.ones(1, 2, 3, 3))
    assert len(seen) == 1
    assert not layer._forward_pre_hooks


def test_geometry_that_the_cut_form_cannot_follow_is_refused():
    layer = nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect")
    at_image = torch.zeros(1, 3, 4, 4)
    with pytest.raises(
        ValueError, match=r"expected a convolution with a number of zeros as padding.*use adaptive_weight"
    ):
        cut_adaptive_weight(at_image, at_image, entering=torch.zeros(1, 2, 4, 4), last_layer=layer)


def test_a_layer_without_weight_is_refused():
    loss = torch.ones((), requires_grad=True) * 2
    with pytest.raises(TypeError, match="adaptive_weight: expected a layer with one weight, got Sequential"):
        adaptive_weight(loss, loss, last_layer=nn.Sequential())


def test_unknown_mode_is_refused():
    layer = nn.Conv2d(2, 3, 1)
    loss = layer(torch.ones(1, 2, 2, 2)).sum()
    with pytest.raises(ValueError, match="mode is 'local' or 'global', got 'both'"):
        adaptive_weight(loss, loss, last_layer=layer, mode="both")  # pyright: ignore[reportArgumentType]


def _one_of_two(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    maker, judge, images, target = _parts()
    mine = slice(2 * rank, 2 * rank + 2)
    with watch_input(maker.last_layer) as entering:
        made = maker(images[mine])
    wanted = loss_at_image(made, lambda image: _wanted(image, target[mine]))
    fooling = loss_at_image(made, lambda image: -judge(image).mean())
    weights = {}
    for mode in ("local", "global"):
        weights[mode] = cut_adaptive_weight(
            wanted.gradient, fooling.gradient, entering=entering[-1], last_layer=maker.last_layer, mode=mode
        )
    loss = association_loss(maker(images[mine]), target[mine], scale=3.0, negatives="global")
    loss.backward()
    gradient = maker.body.weight.grad
    torch.distributed.all_reduce(gradient)
    torch.save({**weights, "association": loss.detach(), "gradient": gradient / 2}, Path(folder) / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_global_modes_make_two_processes_agree_with_one(tmp_path: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_one_of_two, (port, str(tmp_path)), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))

    maker, judge, images, target = _parts()
    made = maker(images)
    weight = adaptive_weight(_wanted(made, target), -judge(made).mean(), last_layer=maker.last_layer)
    loss = association_loss(maker(images), target, scale=3.0)
    loss.backward()

    assert first["global"].item() == pytest.approx(weight.item(), rel=1e-12)
    assert second["global"].item() == first["global"].item()
    assert first["local"].item() != second["local"].item()
    for part in (first, second):
        assert part["association"].item() == pytest.approx(loss.item(), rel=1e-12)
        assert torch.allclose(part["gradient"], maker.body.weight.grad, rtol=1e-11, atol=1e-14)

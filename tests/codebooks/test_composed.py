"""Cosine, grouped, multi-head and residual codebooks are compositions of the one lookup."""

import sys

import pytest
import torch
from einops import rearrange
from torch.nn import functional as F

from codeprior.codebooks import (
    Codebook,
    CosineCodebook,
    GroupedCodebook,
    MovingAverageCodebook,
    ResidualCodebook,
    rotate,
)
from codeprior.kernels import use_impl
from codeprior.kernels._device import why_not_triton
from codeprior.layers.configured import build


def table(size: int = 16, dim: int = 4) -> Codebook:
    codebook = Codebook(size, dim)
    torch.nn.init.normal_(codebook.weight)
    return codebook


def wide(codebook):
    for parameter in codebook.parameters():
        torch.nn.init.normal_(parameter)
    return codebook


def test_cosine_codes_have_the_largest_cosine():
    codebook, latent = CosineCodebook(20, 6), torch.randn(2, 6, 3, 4) * 5
    found = codebook(latent)
    cosines = F.cosine_similarity(rearrange(latent, "b d h w -> b h w 1 d").double(), codebook.weight.double(), dim=-1)
    assert torch.equal(found.indices, cosines.argmax(-1))
    assert torch.equal(found.codes, codebook.lookup(found.indices))
    assert torch.allclose(found.codes.norm(dim=1), torch.ones(2, 3, 4))


def test_groups_are_codebooks_side_by_side():
    codebook, latent = wide(GroupedCodebook(table(), groups=3)), torch.randn(2, 12, 3, 5)
    found = codebook(latent)
    assert found.indices.shape == (2, 3, 3, 5)
    for group, part in enumerate(latent.chunk(3, 1)):
        alone = codebook.codebooks[group](part)
        assert torch.equal(found.indices[:, group], alone.indices)
        assert torch.equal(found.codes.chunk(3, 1)[group], alone.codes)
    assert torch.equal(codebook.lookup(found.indices), found.codes)


def test_heads_share_one_table():
    codebook, latent = GroupedCodebook(table(), groups=3, shared=True), torch.randn(2, 12, 3, 5)
    found = codebook(latent)
    assert len(list(codebook.parameters())) == 1
    for head, part in enumerate(latent.chunk(3, 1)):
        assert torch.equal(found.indices[:, head], codebook.codebooks[0](part).indices)
    assert torch.equal(codebook.lookup(found.indices), found.codes)


@pytest.mark.parametrize("shared", [False, True])
def test_stages_take_what_is_left_over(shared):
    codebook, latent = wide(ResidualCodebook(table(64), stages=4, shared=shared)), torch.randn(2, 4, 3, 5)
    found = codebook(latent)
    rest = latent
    for stage in range(4):
        alone = codebook.codebooks[0 if shared else stage](rest)
        assert torch.equal(found.indices[:, stage], alone.indices)
        rest = rest - alone.codes
    # four float32 additions in another order
    assert torch.allclose(found.codes, latent - rest, atol=1e-5)
    assert torch.equal(codebook.lookup(found.indices), found.codes)
    assert torch.equal(codebook.lookup(found.indices[:, :2]), codebook(latent, depth=2).codes)


def test_all_stages_in_one_launch_give_the_same(monkeypatch):
    pytest.importorskip("triton")
    if "triton" not in sys.modules:
        monkeypatch.setenv("TRITON_INTERPRET", "1")
    codebook, latent = wide(ResidualCodebook(table(40), stages=3)), torch.randn(2, 4, 2, 3)
    apart = codebook(latent)
    if why_not_triton("cpu"):
        pytest.skip(why_not_triton("cpu"))
    with use_impl("residual_code=triton"):
        together = codebook(latent)
    assert torch.equal(together.indices, apart.indices)
    assert torch.equal(together.codes, apart.codes)
    slopes = [torch.autograd.grad(found.codes.square().sum(), codebook.parameters()) for found in (apart, together)]
    for mine, theirs in zip(*slopes, strict=True):
        # the same few float32 terms in another order
        assert torch.allclose(mine, theirs, rtol=1e-5)


def test_gradients_reach_the_latent_once_and_every_table():
    codebook = wide(ResidualCodebook(table(), stages=3))
    latent = torch.randn(1, 4, 3, 3, requires_grad=True)
    found = codebook(latent)
    (found.values.sum() + found.codes.square().sum()).backward()
    assert torch.equal(latent.grad, torch.ones_like(latent))
    assert all(parameter.grad.abs().sum() > 0 for parameter in codebook.parameters())


def test_moving_averages_fit_inside():
    codebook = ResidualCodebook(MovingAverageCodebook(8, 4, initialise_from_batch=True), stages=2)
    latent = torch.randn(4, 4, 4, 4)
    errors = [(codebook(latent).codes - latent).square().mean().item() for _ in range(30)]
    assert errors[-1] < 0.7 * errors[0]


def test_the_arguments_build_the_same_family():
    for codebook in (
        GroupedCodebook(table(), groups=3, shared=True),
        ResidualCodebook(MovingAverageCodebook(8, 4), stages=2),
        CosineCodebook(8, 4, gradient="rotation"),
    ):
        again = build(codebook.config)
        again.load_state_dict(codebook.state_dict())
        latent = torch.randn(1, codebook.dim, 2, 3)
        assert torch.equal(again.eval()(latent).codes, codebook.eval()(latent).codes)


def test_rotation_carries_the_gradient_from_code_to_vector():
    latent, codes = torch.randn(1, 5, 1, 1, dtype=torch.float64, requires_grad=True), torch.randn(1, 5, 1, 1).double()
    values = rotate(latent, codes)
    assert torch.equal(values, codes)
    x, c = latent.detach().flatten(), codes.flatten()
    jacobian = torch.autograd.functional.jacobian(lambda z: rotate(z, codes).flatten(), latent).view(5, 5)
    ratio = c.norm() / x.norm()
    # a rotation times the ratio of lengths, which takes the vector to its code
    assert torch.allclose(jacobian @ jacobian.T, ratio**2 * torch.eye(5).double())
    assert torch.allclose(torch.linalg.det(jacobian), ratio**5)
    assert torch.allclose(jacobian @ x, c)


def test_wrong_calls_say_what_was_expected():
    with pytest.raises(ValueError, match=r"GroupedCodebook: expected a latent \(b, 12, h, w\), got \(1, 4, 2, 2\)"):
        GroupedCodebook(table(), groups=3)(torch.zeros(1, 4, 2, 2))
    with pytest.raises(ValueError, match=r"expected a depth in \[1, 2\], got 3"):
        ResidualCodebook(table(), stages=2)(torch.zeros(1, 4, 2, 2), depth=3)
    with pytest.raises(ValueError, match="expected gradient 'straight_through' or 'rotation', got 'none'"):
        Codebook(4, 2, gradient="none")(torch.zeros(1, 2, 1, 1))

"""Promises of every codebook: the nearest row, straight-through values, an indices-only way back."""

import pytest
import torch
from einops import rearrange

from codeprior.codebooks import Codebook, MovingAverageCodebook, perplexity, usage


@pytest.fixture(params=[Codebook, MovingAverageCodebook])
def codebook(request):
    torch.manual_seed(0)
    return request.param(32, 8).eval()


def latent(*, seed: int = 0, spread: float = 1 / 32):
    return torch.randn(2, 8, 3, 5, generator=torch.Generator().manual_seed(seed)) * spread


def test_codes_are_the_nearest_rows(codebook):
    z = latent()
    rows = rearrange(z, "b d h w -> (b h w) d").double()
    truth = (rows[:, None] - codebook.weight.double()).square().sum(-1).argmin(1)
    quantized = codebook(z)
    assert torch.equal(quantized.indices, rearrange(truth, "(b h w) -> b h w", b=2, h=3))
    assert torch.equal(quantized.codes, codebook.lookup(quantized.indices))


def test_values_are_the_codes_with_the_gradient_of_the_latent(codebook):
    z = latent().requires_grad_()
    values, codes, _ = codebook(z)
    assert torch.equal(values, codes)
    slope = torch.randn_like(values)
    (values * slope).sum().backward()
    assert torch.equal(z.grad, slope)
    assert all(p.grad is None for p in codebook.parameters())


def test_codes_carry_the_gradient_to_the_chosen_rows():
    codebook = Codebook(32, 8)
    z = latent().requires_grad_()
    _, codes, indices = codebook(z)
    slope = torch.randn_like(codes)
    (codes * slope).sum().backward()
    truth = torch.zeros(32, 8).index_add_(0, indices.reshape(-1), rearrange(slope, "b d h w -> (b h w) d"))
    # the order of the sum may differ: a few float32 roundings of sums of at most 30 terms
    assert torch.allclose(codebook.weight.grad, truth, atol=1e-5)
    assert z.grad is None


def test_a_wrong_width_says_what_was_expected(codebook):
    with pytest.raises(ValueError, match=r"expected latent .*\(b, 8, h, w\).* got \(1, 7, 2, 2\)"):
        codebook(torch.zeros(1, 7, 2, 2))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_latents_give_half_codes_and_exact_indices(codebook, dtype):
    z = latent().to(dtype)
    quantized = codebook(z)
    assert quantized.codes.dtype == quantized.values.dtype == dtype
    assert torch.equal(quantized.indices, codebook(z.float()).indices)


def test_the_memory_layout_of_the_latent_is_kept(codebook):
    assert codebook(latent()).codes.is_contiguous()
    wide = latent().to(memory_format=torch.channels_last)
    assert codebook(wide).codes.is_contiguous(memory_format=torch.channels_last)


def test_perplexity_counts_the_codes_in_even_use():
    assert usage(torch.tensor([[0, 2], [2, 3]]), 5).tolist() == [1, 0, 2, 1, 0]
    assert perplexity(torch.tensor([4, 4, 4, 0, 0])).item() == pytest.approx(3)
    assert perplexity(torch.zeros(4)).item() == 1


def test_the_arguments_are_remembered():
    assert Codebook(32, 8).config == {
        "class": "Codebook",
        "size": 32,
        "dim": 8,
        "gradient": "straight_through",
    }
    assert MovingAverageCodebook(4, 2, decay=0.5).config["decay"] == 0.5

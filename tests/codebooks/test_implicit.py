"""Codebooks without a table, and one whose table is mapped: the protocol of the others, and the use of all codes."""

import itertools

import pytest
import torch
from einops import rearrange
from hypothesis import given
from hypothesis import strategies as st

from codeprior.codebooks import (
    FiniteScalarCodebook,
    LookupFreeCodebook,
    MovingAverageCodebook,
    SimVQCodebook,
    usage,
)
from codeprior.layers.configured import build
from codeprior.losses import code_entropy_loss, codebook_loss

MAKERS = {
    "finite scalar": lambda: FiniteScalarCodebook((8, 5, 3, 2)),
    "lookup-free": lambda: LookupFreeCodebook(4),
    "SimVQ": lambda: SimVQCodebook(40, 4),
}


@pytest.fixture(params=MAKERS)
def codebook(request):
    return MAKERS[request.param]()


def test_indices_lead_back_to_the_codes_and_values_are_the_codes(codebook):
    z = torch.randn(2, 4, 3, 5).requires_grad_()
    values, codes, indices = codebook(z)
    assert torch.equal(values, codes)
    assert indices.shape == (2, 3, 5) and indices.dtype == torch.int64
    assert indices.min() >= 0 and indices.max() < codebook.size
    assert torch.allclose(codebook.lookup(indices), codes, atol=1e-6)
    (slope,) = torch.autograd.grad(values.sum(), z)
    assert slope.isfinite().all() and slope.abs().sum() > 0


def test_vectors_that_are_not_finite_get_zero_and_nan(codebook):
    z = torch.randn(1, 4, 1, 4)
    z[0, 2, 0, 1], z[0, 0, 0, 3] = torch.nan, torch.inf
    values, codes, indices = codebook(z)
    assert indices[0, 0, [1, 3]].tolist() == [0, 0]
    assert codes[0, :, 0, [1, 3]].isnan().all() and values[0, :, 0, [1, 3]].isnan().all()
    assert codes[0, :, 0, [0, 2]].isfinite().all()


def test_half_precision_stays_half_precision(codebook):
    values, codes, _ = codebook(torch.randn(1, 4, 2, 2).bfloat16())
    assert values.dtype == codes.dtype == torch.bfloat16


def test_a_configuration_builds_the_same_codebook(codebook):
    again = build(codebook.config)
    again.load_state_dict(codebook.state_dict())
    z = torch.randn(1, 4, 3, 3)
    assert torch.equal(again(z).indices, codebook(z).indices)


@pytest.mark.parametrize("levels", [(2,), (3, 2), (8, 5, 5)])
def test_every_code_of_finite_levels_is_reached_and_is_the_nearest(levels):
    codebook = FiniteScalarCodebook(levels)
    table = codebook.lookup(torch.arange(codebook.size).reshape(1, 1, -1))[0, :, 0]
    # all combinations of each number's levels, in [−1, 1]
    grids = [[(digit - count // 2) / (count // 2) for digit in range(count)] for count in levels]
    assert torch.allclose(torch.tensor(sorted(table.T.tolist())), torch.tensor(sorted(itertools.product(*grids))))
    # steps of an eighth, finer than any level, over all that the bound does not flatten
    z = torch.stack(torch.meshgrid(*[torch.linspace(-4, 4, 65)] * len(levels), indexing="ij")).flatten(1)[None, :, None]
    found, bounded = codebook(z), codebook.bounded(z)
    # nearest in units of levels, where all numbers' steps are alike
    scale = rearrange(codebook.levels // 2, "d -> d 1 1")
    assert ((found.codes - bounded) * scale).abs().max() <= 0.5 + 1e-5
    assert usage(found.indices, codebook.size).min() > 0


@given(seed=st.integers(0, 2**32 - 1), dim=st.integers(1, 12))
def test_lookup_free_codes_are_the_nearest_corners(seed, dim):
    codebook = LookupFreeCodebook(dim)
    z = torch.randn(1, dim, 2, 2, generator=torch.Generator().manual_seed(seed))
    corners = codebook.lookup(torch.arange(codebook.size).reshape(1, 1, -1))[0, :, 0].T
    rows = rearrange(z, "b d h w -> (b h w) d")
    assert torch.equal(codebook(z).indices.flatten(), torch.cdist(rows.double(), corners.double()).argmin(1))


def test_the_entropy_is_that_of_every_code_written_out():
    dim, temperature = 3, 0.7
    z = torch.randn(2, dim, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    codebook = LookupFreeCodebook(dim)
    corners = codebook.lookup(torch.arange(8).reshape(1, 1, -1))[0, :, 0].T.double()
    rows = rearrange(z, "b d h w -> (b h w) d")
    share = (-(rows[:, None] - corners).square().sum(-1) / temperature).softmax(1)
    each = -torch.xlogy(share, share).sum(1).mean()
    assert torch.allclose(code_entropy_loss(z, temperature=temperature, diversity=0.0), each)
    bits = share @ ((corners + 1) / 2)
    mean = bits.mean(0)
    together = -(torch.xlogy(mean, mean) + torch.xlogy(1 - mean, 1 - mean)).sum()
    assert torch.allclose(code_entropy_loss(z, temperature=temperature), each - together)
    with pytest.raises(ValueError, match=r"expected a temperature above 0, got 0"):
        code_entropy_loss(z, temperature=0)


def test_a_step_of_the_map_moves_codes_that_nobody_chose():
    codebook = SimVQCodebook(64, 4)
    before = codebook.weight.detach().clone()
    z = torch.randn(1, 4, 1, 2)
    found = codebook(z)
    codebook_loss(z, found.codes, commitment=1.0, codebook=1.0).backward()
    assert codebook.mapping.weight.grad.abs().sum() > 0
    torch.optim.SGD(codebook.parameters(), lr=1.0).step()
    moved = (codebook.weight.detach() - before).abs().sum(1) > 0
    assert len(found.indices.unique()) <= 2 and moved.sum() == 64


def clustered(step: int) -> torch.Tensor:
    """Vectors around 64 centres far from the codes' first places, as an encoder gives them."""
    centres = 5 * torch.randn(64, 8, generator=torch.Generator().manual_seed(1)) + 10
    generator = torch.Generator().manual_seed(100 + step)
    rows = centres[torch.randint(0, 64, (1024,), generator=generator)]
    rows = rows + torch.randn(1024, 8, generator=generator)
    return rearrange(rows, "(h w) d -> 1 d h w", h=32)


def used(codebook: torch.nn.Module, size: int) -> float:
    codebook.eval()
    counts = sum(usage(codebook(clustered(1000 + step)).indices, size) for step in range(16))
    return float((torch.as_tensor(counts) > 0).float().mean())


def test_revival_brings_the_use_of_codes_near_to_all_of_them():
    """The ask of vector-quantize-pytorch's users: near 100 % of a codebook in use. Without revival few codes are."""
    shares = {}
    for revive_below in (0.0, 0.05):
        codebook = MovingAverageCodebook(256, 8, revive_below=revive_below, decay=0.9)
        for step in range(100):
            codebook(clustered(step))
        shares[revive_below] = used(codebook, 256)
    assert shares[0.05] >= 0.98
    assert shares[0.0] <= 0.5


def test_wrong_arguments_say_what_was_expected():
    with pytest.raises(ValueError, match=r"expected two or more levels for each number, got \(8, 1\)"):
        FiniteScalarCodebook((8, 1))
    with pytest.raises(ValueError, match=r"expected a width in \[1, 62\], got 63"):
        LookupFreeCodebook(63)
    with pytest.raises(ValueError, match=r"FiniteScalarCodebook: expected latent \(b, 2, h, w\), got \(1, 3, 2, 2\)"):
        FiniteScalarCodebook((8, 5))(torch.zeros(1, 3, 2, 2))
    with pytest.raises(ValueError, match=r"LookupFreeCodebook: expected latent \(b, 4, h, w\), got \(1, 3, 2, 2\)"):
        LookupFreeCodebook(4)(torch.zeros(1, 3, 2, 2))


def test_gradients_of_bounded_numbers_are_those_of_the_bound():
    codebook = FiniteScalarCodebook((8, 5))
    z = torch.randn(1, 2, 3, 3).requires_grad_()
    slope = torch.randn(1, 2, 3, 3)
    (ours,) = torch.autograd.grad((codebook(z).values * slope).sum(), z)
    (bound,) = torch.autograd.grad((codebook.bounded(z) * slope).sum(), z)
    assert torch.equal(ours, bound)
    assert ours.abs().sum() > 0

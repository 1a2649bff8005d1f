"""Codes that nobody chooses over many batches become vectors of the batch; the others stay, to the bit."""

import pytest
import torch
from einops import rearrange

from codeprior.codebooks import (
    Codebook,
    GroupedCodebook,
    MovingAverageCodebook,
    ResidualCodebook,
    UsageMeter,
    unused,
    usage,
)


def _half_dead(size=16, dim=4, seed=0):
    """A table of which the first half lies where vectors are, and the second nowhere near."""
    made, generator = Codebook(size, dim), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        made.weight.copy_(torch.randn(size, dim, generator=generator))
        made.weight[size // 2 :] += 1000
    return made


def _latent(dim=4, seed=1):
    return torch.randn(4, dim, 8, 8, generator=torch.Generator().manual_seed(seed))


def _rows(latent):
    return rearrange(latent, "b d h w -> (b h w) d")


def _counts(codebook, latents, size=16):
    meter = UsageMeter(size, tables=2 if isinstance(codebook, (ResidualCodebook, GroupedCodebook)) else 1)
    for latent in latents:
        indices = codebook(latent).indices
        meter.add(torch.stack([usage(one, size) for one in (indices.unbind(1) if indices.ndim == 4 else [indices])]))
    return meter


def test_dead_codes_become_vectors_and_are_chosen():
    codebook, latents = _half_dead(), [_latent(seed=seed) for seed in range(1, 6)]
    before, meter = codebook.weight.detach().clone(), _counts(codebook, latents)
    dead = unused(meter.counts, below=0.05)[0]
    assert dead.tolist() == [False] * 8 + [True] * 8
    codebook.revive(_rows(latents[-1]), dead, seed=3)
    assert torch.equal(codebook.weight[:8], before[:8])
    # each is a vector that came, and no two are the same
    same = (codebook.weight[8:, None] == _rows(latents[-1])).all(-1)
    assert same.any(1).all() and len(codebook.weight[8:].unique(dim=0)) == 8
    assert _counts(codebook, latents).counts[0].gt(0).all()
    # what was revived has time before it counts as dead again
    meter.forgive(dead[None])
    assert not unused(meter.counts, below=0.05).any()


def test_the_same_seed_draws_the_same_and_others_do_not():
    dead = torch.ones(16, dtype=torch.bool)
    tables = []
    for seed in (3, 3, 4):
        codebook = _half_dead()
        codebook.revive(_rows(_latent()), dead, seed=seed)
        tables.append(codebook.weight)
    assert torch.equal(tables[0], tables[1]) and not torch.equal(tables[0], tables[2])


def test_vectors_that_are_not_finite_revive_nothing_and_few_vectors_are_enough():
    codebook = _half_dead()
    before = codebook.weight.detach().clone()
    codebook.revive(torch.full((3, 4), float("nan")), torch.ones(16, dtype=torch.bool))
    assert torch.equal(codebook.weight, before)
    codebook.revive(torch.ones(1, 4), torch.ones(16, dtype=torch.bool))
    assert torch.equal(codebook.weight, torch.ones(16, 4))


def test_residual_tables_are_revived_with_what_is_left():
    codebook = ResidualCodebook(_half_dead(), stages=2)
    with torch.no_grad():
        codebook.codebooks[1].weight[8:] += 1000
    latent = _latent()
    dead = unused(_counts(codebook, [latent]).counts, below=0.05)
    assert dead[:, 8:].all()
    left = _rows(latent - codebook.codebooks[0](latent).codes)
    live = [table.weight.detach().clone() for table in codebook.codebooks]
    codebook.revive(_rows(latent), dead, seed=1)
    for table, before, vectors, gone in zip(codebook.codebooks, live, (_rows(latent), left), dead, strict=True):
        assert torch.equal(table.weight[~gone], before[~gone])
        assert (table.weight[gone][:, None] == vectors).all(-1).any(1).all()


@pytest.mark.parametrize("shared", [False, True])
def test_grouped_tables_are_revived_with_their_parts(shared):
    codebook = GroupedCodebook(_half_dead(dim=2), groups=2, shared=shared)
    latent = _latent()
    dead = torch.tensor([[False] * 8 + [True] * 8, [False] * 12 + [True] * 4])
    codebook.revive(_rows(latent), dead, seed=1)
    parts = _rows(latent).chunk(2, 1)
    for number, table in enumerate(codebook.codebooks):
        gone, vectors = (dead.all(0), torch.cat(parts)) if shared else (dead[number], parts[number])
        came = (table.weight[:, None] == vectors).all(-1).any(1)
        assert torch.equal(came, gone)


def test_what_cannot_be_revived_and_what_is_no_share_is_said():
    tables = ResidualCodebook(MovingAverageCodebook(16, 4), stages=2)
    with pytest.raises(TypeError, match="revive: MovingAverageCodebook takes no vectors for its codes"):
        tables.revive(_rows(_latent()), torch.ones(2, 16, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"unused: expected below in \[0, 1\), got 1"):
        unused(torch.ones(1, 4), below=1)

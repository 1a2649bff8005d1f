"""Codes that nobody chooses over many batches become vectors of the batch; the others stay, to the bit."""

import pytest
import torch
from einops import rearrange

from codeprior.codebooks import (
    Codebook,
    CosineCodebook,
    GroupedCodebook,
    MovingAverageCodebook,
    ResidualCodebook,
    UsageMeter,
    unused,
    usage,
)
from codeprior.losses import codebook_loss


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


def test_dead_cosine_codes_turn_to_vectors_and_keep_their_length():
    codebook, latent = CosineCodebook(16, 4), _latent()
    dead = torch.arange(16) % 2 == 1
    before, vectors = codebook.weight.detach().clone(), _rows(latent).clone()
    # a vector without a direction, and one that is not finite, revive nothing
    vectors[:2] = torch.tensor([[0.0], [torch.nan]])
    codebook.revive(vectors, dead, seed=3)
    assert torch.equal(codebook.weight[~dead], before[~dead])
    assert torch.allclose(codebook.weight.norm(dim=1), before.norm(dim=1), rtol=1e-6)
    cosine = torch.nn.functional.cosine_similarity(codebook.weight[dead][:, None], vectors[2:], dim=-1)
    # float32 rounding of two unit vectors
    assert (cosine.amax(1) > 1 - 1e-6).all() and codebook.weight.isfinite().all()
    codebook.revive(torch.zeros(3, 4), dead)
    assert codebook.weight.isfinite().all() and codebook.weight.norm(dim=1).min() > 0


@pytest.mark.parametrize("kind", [Codebook, CosineCodebook])
def test_nearly_every_code_is_in_use_where_dead_ones_are_revived(kind):
    """As for moving averages in `test_implicit`: vectors far from the origin, narrow in most directions."""
    generator = torch.Generator().manual_seed(0)
    centre, stretch = 3 * torch.randn(4, generator=generator), torch.logspace(0, -1, 4)
    used = {}
    for revived in (False, True):
        torch.manual_seed(0)
        codebook = kind(64, 4)
        optimizer = torch.optim.Adam(codebook.parameters(), lr=1e-3)
        meter = UsageMeter(64, memory=10)
        for step in range(60):
            rows = centre + stretch * torch.randn(512, 4, generator=generator)
            latent = rearrange(rows, "n d -> 1 d n 1").contiguous()
            found = codebook(latent)
            target = codebook.unit(latent) if kind is CosineCodebook else latent
            loss = codebook_loss(target, found.codes, commitment=0.0, codebook=1.0)
            optimizer.zero_grad(), loss.backward(), optimizer.step()
            meter.add(usage(found.indices, 64)[None])
            if revived and step < 50 and step % 10 == 9:
                dead = unused(meter.counts, below=0.05)
                codebook.revive(rows, dead[0], seed=step)
                meter.forgive(dead)
        used[revived] = float(meter.figures()["codes_used"])
    assert used[False] < 0.3
    assert used[True] > 0.99


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

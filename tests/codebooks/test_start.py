"""How codes begin, and how their use is counted over many batches."""

import pytest
import torch

from codeprior.codebooks import (
    Codebook,
    CosineCodebook,
    GroupedCodebook,
    LatentReservoir,
    MovingAverageCodebook,
    ResidualCodebook,
    UsageMeter,
    kmeans,
)


def _clusters(centres=8, dim=4, each=40):
    generator = torch.Generator().manual_seed(0)
    truth = 20 * torch.randn(centres, dim, generator=generator)
    noise = torch.randn(centres, each, dim, generator=generator)
    return truth, (truth[:, None] + 0.1 * noise).flatten(0, 1)


def test_kmeans_reaches_a_fixed_point_of_lloyds_iteration():
    _, vectors = _clusters()
    centres = kmeans(vectors, 8, iterations=60)
    nearest = torch.cdist(vectors.double(), centres.double()).argmin(1)
    for code in nearest.unique():
        # float32 means of tens of vectors
        torch.testing.assert_close(centres[code], vectors[nearest == code].mean(0), rtol=1e-5, atol=1e-5)


def test_kmeans_is_the_same_for_the_same_seed_and_leaves_the_global_generator():
    _, vectors = _clusters()
    before = torch.get_rng_state()
    assert torch.equal(kmeans(vectors, 5, seed=3), kmeans(vectors, 5, seed=3))
    assert torch.equal(before, torch.get_rng_state())


def test_more_centres_than_vectors_are_all_vectors():
    vectors = torch.randn(3, 2)
    found = kmeans(vectors, 7)
    assert torch.cdist(found, vectors).amin(1).max() < 1e-6


def test_vectors_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="kmeans: expected finite vectors, at least one, got 0"):
        kmeans(torch.zeros(0, 2), 4)
    with pytest.raises(ValueError, match="expected finite vectors"):
        kmeans(torch.full((4, 2), torch.nan), 4)


def test_started_cosine_codes_point_where_the_vectors_do():
    _, vectors = _clusters()
    torch.manual_seed(1)  # the clusters' centres are the first numbers of seed 0
    codebook = CosineCodebook(16, 4)
    lengths, latent = codebook.weight.detach().norm(dim=1), vectors.T[None, :, :, None]
    before = (codebook(latent).codes - codebook.unit(latent)).square().mean()
    codebook.start(vectors)
    assert (codebook(latent).codes - codebook.unit(latent)).square().mean() < 0.05 * before
    assert torch.allclose(codebook.weight.norm(dim=1), lengths, rtol=1e-6)


@pytest.mark.parametrize("kind", [Codebook, MovingAverageCodebook])
def test_started_codes_stand_where_the_vectors_are(kind):
    _, vectors = _clusters()
    codebook = kind(16, 4)
    before = (codebook(vectors.T[None, :, :, None]).codes - vectors.T[None, :, :, None]).square().mean()
    codebook.start(vectors)
    after = (codebook.eval()(vectors.T[None, :, :, None]).codes - vectors.T[None, :, :, None]).square().mean()
    assert after < 0.05 * before


def test_a_started_moving_average_goes_on_from_its_codes():
    _, vectors = _clusters()
    codebook = MovingAverageCodebook(8, 4, initialise_from_batch=True, revive_below=0.0)
    codebook.start(vectors)
    started = codebook.weight.clone()
    torch.testing.assert_close(codebook.sums, codebook.weight * codebook.counts[:, None])
    codebook.train()(vectors.T[None, :, :, None])
    # one update by a hundredth towards the means of the same vectors, and no code replaced by a vector
    assert (codebook.weight - started).norm(dim=1).max() < 0.05 * started.norm(dim=1).mean()


def test_residual_tables_start_on_what_is_left():
    _, vectors = _clusters()
    one = ResidualCodebook(MovingAverageCodebook(4, 4), stages=1)
    two = ResidualCodebook(MovingAverageCodebook(4, 4), stages=2)
    one.start(vectors)
    two.start(vectors)
    latent = vectors.T[None, :, :, None]
    errors = [float((book.eval()(latent).codes - latent).square().mean()) for book in (one, two)]
    assert errors[1] < 0.6 * errors[0]
    assert two.tables.shape == (2, 4, 4) and torch.equal(two.tables[0], two.codebooks[0].weight)


@pytest.mark.parametrize("shared", [False, True])
def test_grouped_tables_start_on_their_channels(shared):
    _, vectors = _clusters()
    book = GroupedCodebook(Codebook(8, 2), groups=2, shared=shared)
    book.start(vectors)
    latent = vectors.T[None, :, :, None]
    assert (book(latent).codes - latent).square().mean() < 0.5 * vectors.var()


def test_the_reservoir_keeps_the_newest_vectors():
    reservoir = LatentReservoir(2, room=6)
    assert len(reservoir.held()) == 0
    first, second = torch.arange(8.0).reshape(1, 2, 2, 2), torch.arange(8.0, 16.0).reshape(1, 2, 2, 2)
    reservoir.add(first)
    assert torch.equal(reservoir.held(), first.permute(0, 2, 3, 1).reshape(-1, 2))
    reservoir.add(second)
    rows = torch.cat((first, second)).permute(0, 2, 3, 1).reshape(-1, 2)
    assert {tuple(row) for row in reservoir.held().tolist()} == {tuple(row) for row in rows[-6:].tolist()}
    fresh = LatentReservoir(2, room=6)
    fresh.load_state_dict(reservoir.state_dict())
    assert torch.equal(fresh.held(), reservoir.held())


def test_use_is_counted_over_many_batches():
    meter = UsageMeter(4, tables=2, memory=50)
    for batch in range(8):
        counts = torch.zeros(2, 4)
        counts[0, batch % 4] = 2  # one code a batch, all four in turn
        counts[1, 0] = 2
        meter.add(counts)
    figures = meter.figures()
    # the second table uses one code of four, and the worst table counts
    assert float(figures["codes_used"]) == 0.25 and float(figures["perplexity"]) == pytest.approx(1.0)
    assert float((meter.counts[0] > 0.36).double().mean()) == 1.0
    for _ in range(300):
        meter.add(torch.tensor([[2.0, 0, 0, 0], [2.0, 0, 0, 0]]))
    assert float((meter.counts[0] > 0.36).double().mean()) == 0.25  # what was not chosen lately is out of use

"""The order of the data: every sample once an epoch, and a function of the step alone."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from codeprior.training.order import slots

COUNTS, SEEDS = st.integers(1, 3000), st.integers(-(2**63), 2**64)


@given(count=COUNTS, seed=SEEDS, epoch=st.integers(0, 10**6))
def test_every_sample_comes_once_an_epoch(count, seed, epoch):
    chosen = slots(epoch * count, (epoch + 1) * count, count=count, seed=seed)
    assert np.array_equal(np.sort(chosen.indices), np.arange(count))
    assert (chosen.epochs == epoch).all()


@given(count=COUNTS, seed=SEEDS, start=st.integers(0, 10**6), cuts=st.lists(st.integers(0, 200), max_size=6))
def test_pieces_of_the_stream_join_to_the_stream(count, seed, start, cuts):
    edges = [start, *sorted(start + cut for cut in cuts), start + 200]
    whole = slots(start, start + 200, count=count, seed=seed)
    pieces = [slots(a, b, count=count, seed=seed) for a, b in itertools.pairwise(edges)]
    for field, parts in zip(whole, zip(*pieces, strict=True), strict=True):
        assert np.array_equal(field, np.concatenate(parts))


def test_the_stream_is_the_same_on_every_machine_and_version():
    chosen = slots(0, 8, count=5, seed=42)
    assert chosen.indices.tolist() == [0, 1, 2, 3, 4, 3, 1, 2]
    assert chosen.keys[:2].tolist() == [2149898496976956862, 7020318628992721810]
    assert chosen.flipped.tolist() == [False, True, False, True, True, False, False, True]


def test_keys_differ_between_samples_epochs_and_seeds():
    keys = [slots(0, 50_000, count=5_000, seed=seed).keys for seed in (0, 1)]
    assert len(np.unique(np.concatenate(keys))) == 100_000
    assert all((key >= 0).all() for key in keys)


def test_half_of_the_samples_are_mirrored_whatever_the_seed():
    for seed in range(5):
        # five standard deviations of a fair coin thrown 40 000 times
        assert abs(slots(0, 40_000, count=400, seed=seed).flipped.mean() - 0.5) < 5 * 0.5 / 200


def test_orders_of_two_epochs_are_unrelated():
    first, second = (slots(e * 4000, (e + 1) * 4000, count=4000, seed=7).indices for e in (0, 1))
    # rank correlation of independent orders has standard deviation 1/sqrt(n)
    assert abs(np.corrcoef(first, second)[0, 1]) < 5 / np.sqrt(4000)
    assert abs(np.corrcoef(first, np.arange(4000))[0, 1]) < 5 / np.sqrt(4000)
    # fixed points of a random permutation are Poisson with mean 1
    assert (first == np.arange(4000)).sum() < 10

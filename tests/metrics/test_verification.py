import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codeprior.metrics import identity_pairs, read_pairs, verify


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 30), st.integers(2, 30))
def test_the_area_is_the_chance_that_a_same_pair_is_nearer(seed: int, same: int, different: int):
    generator = np.random.default_rng(seed)
    values = generator.integers(0, 10, same + different).astype(float)  # many ties
    truth = [True] * same + [False] * different
    near, far = values[:same, None], values[None, same:]
    expected = ((near < far).mean() + (near == far).mean() / 2).item()
    assert verify(values, truth, folds=2).area == pytest.approx(expected, abs=1e-12)


def test_pairs_that_separate_are_all_right():
    found = verify([0.1, 0.2, 0.3, 0.4, 0.8, 0.9, 1.0, 1.1], [True] * 4 + [False] * 4, folds=4)
    assert (found.accuracy, found.area, found.equal_error) == (1, 1, 0)
    assert found.threshold == pytest.approx(0.6)


def test_distances_that_say_nothing_are_right_half_the_time():
    found = verify(np.ones(40), [True, False] * 20)
    assert (found.accuracy, found.area, found.equal_error) == (0.5, 0.5, 0.5)


def test_the_threshold_comes_from_the_other_folds():
    # each fold alone separates, at 0.3 and 0.95; judged at the other's threshold each is right on one pair of two
    found = verify([0.1, 0.9, 0.5, 1.0], [True, True, False, False], folds=2)
    assert found.accuracy == pytest.approx(0.5)


def test_what_cannot_be_judged_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least 10 pairs of either kind for 10 folds"):
        verify([0.1, 0.2], [True, False])
    with pytest.raises(ValueError, match="1 missing; leave out the pairs"):
        verify([float("nan"), 0.2], [True, False])
    (tmp_path / "pairs.csv").write_text("first,second,same\na.png,b.png,1\na.png,c.png,0\n")
    assert [pair.same for pair in read_pairs(tmp_path / "pairs.csv")] == [True, False]
    (tmp_path / "wrong.csv").write_text("first,second,same\na.png,b.png,yes\n")
    with pytest.raises(ValueError, match=r"line 2 of .*same \(1 or 0\)"):
        read_pairs(tmp_path / "wrong.csv")
    (tmp_path / "none.csv").write_text("first,second,same\n")
    with pytest.raises(ValueError, match="at least one pair"):
        read_pairs(tmp_path / "none.csv")


def test_pairs_of_a_set_are_every_same_and_as_many_different():
    people = {f"{person}{picture}": person for person in "abcd" for picture in range(3)}
    pairs = identity_pairs(people, torch.Generator().manual_seed(0))
    assert len({frozenset(pair[:2]) for pair in pairs}) == len(pairs) == 24
    assert all(pair.same == (people[pair.first] == people[pair.second]) for pair in pairs)
    assert sum(pair.same for pair in pairs) == 12
    assert identity_pairs({"a": "x", "b": "x"}, torch.Generator())[0].same
    assert identity_pairs({"a": "x", "b": "y"}, torch.Generator()) == []

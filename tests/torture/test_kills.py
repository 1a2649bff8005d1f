"""Killed runs and failed ranks end with the bits of runs that never were; the long versions are `make torture`."""

import pytest
import torch

from tests.torture import stages
from tests.torture.kills import survive
from tests.torture.rank_failures import KINDS, recover


@pytest.mark.parametrize("name", ["restoration", pytest.param("association", marks=pytest.mark.slow)])
def test_a_killed_run_ends_with_the_same_bits(tmp_path, name):
    runs = list(survive(tmp_path, kills=3, seed=3, names=(name,)))
    assert sum(run.kills for run in runs) == 3
    assert all(run.equal and not run.litter for run in runs)


def test_a_killed_rank_costs_nothing_but_time(tmp_path):
    run = recover(tmp_path, "restoration", "kill rank 1")
    assert run.failed and run.equal


@pytest.mark.slow
def test_two_hundred_kills_over_four_stages(tmp_path):
    torch.set_num_threads(1)
    runs = list(survive(tmp_path, kills=200, seed=0))
    assert sum(run.kills for run in runs) == 200
    assert {run.stage for run in runs} == set(stages.NAMES)
    assert not [run for run in runs if not run.equal or run.litter]
    # kills fall everywhere, also between the operations of a save
    assert sum(run.during_save for run in runs) > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", stages.NAMES)
def test_every_failure_of_a_rank_is_recovered_from(tmp_path, name, kind):
    torch.set_num_threads(1)
    run = recover(tmp_path, name, kind)
    assert run.failed and run.equal

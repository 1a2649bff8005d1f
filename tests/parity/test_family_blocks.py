"""Every shared block agrees with the official block of CodeFormer, VQFR or RestoreFormer that was recorded for it."""

from functools import lru_cache

import numpy as np
import pytest

from tests.parity import family_blocks, judge

_OUTPUTS = [f"{block}__{output}" for block, told in family_blocks.BLOCKS.items() for output in told["outputs"]]
_arrays = lru_cache(maxsize=2)(family_blocks.arrays)


@pytest.fixture(scope="module")
def stored():
    with np.load(family_blocks.FIXTURES / "blocks.npz") as arrays:
        yield arrays


@pytest.mark.parametrize(
    "how",
    [{}, {"gradients": True}, {"impl": "reference"}, {"impl": "compiled"}],
    ids=["plain", "gradients", "reference", "compiled"],
)
@pytest.mark.parametrize("output", _OUTPUTS)
def test_a_block_gives_what_the_official_one_gave(stored, output: str, how: dict):
    ours = _arrays(**how)[output]
    if stored[output].dtype.kind == "i":
        assert judge.how_many_differ(ours, stored[output]) == 0
    else:
        # two orders of summation in float32
        assert judge.of_largest(ours, stored[output]) < 1e-5


def test_no_recorded_output_is_left_out(stored):
    assert set(stored.files) == set(_OUTPUTS) == set(_arrays())

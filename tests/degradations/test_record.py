"""Records: small, sliced, saved, changed and put together without changing what they say."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from codeprior.degradations import Chain, GaussianNoise, Jpeg, Params, Round, concatenate, preset, preset_names

from .reference import photograph

pytestmark = pytest.mark.filterwarnings("ignore:preset")


def drawn(count: int, seed: int = 0, name: str = "daefr") -> Params:
    return preset(name).sample((count, 64, 64), torch.Generator().manual_seed(seed))


def same(first: Params, second: Params) -> bool:
    return (
        first.values.keys() == second.values.keys()
        and torch.equal(first.sizes, second.sizes)
        and all(
            torch.equal(value, second.values[name]) and value.dtype == second.values[name].dtype
            for name, value in first.values.items()
        )
    )


@pytest.mark.parametrize("name", preset_names())
def test_a_row_is_at_most_256_bytes_whatever_the_image(name):
    op = preset(name)
    small, large = (op.sample((2, side, side), torch.Generator().manual_seed(0)) for side in (256, 2048))
    assert small.bytes_per_sample == large.bytes_per_sample <= 256


@given(count=st.integers(1, 9), seed=st.integers(0, 2**31), data=st.data())
def test_slices_are_what_is_asked_for(count, seed, data):
    whole = drawn(count, seed)
    rows = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=6))
    assert same(whole[rows], concatenate([whole[row] for row in rows]))
    assert same(whole[torch.tensor(rows)], whole[rows])
    assert same(concatenate(list(whole)), whole)
    cut = data.draw(st.integers(0, count))
    assert same(concatenate([whole[:cut], whole[cut:]]), whole)
    assert same(whole[-1], whole[count - 1])
    with pytest.raises(IndexError, match=f"expected a row below {count}, got {count}"):
        whole[count]


@given(count=st.integers(1, 5), more=st.integers(1, 5), seed=st.integers(0, 2**31))
def test_a_longer_draw_begins_with_a_shorter_one(count, more, seed):
    assert same(drawn(count + more, seed)[:count], drawn(count, seed))


def test_what_is_saved_is_loaded_to_the_bit(tmp_path):
    whole = drawn(5)
    whole.save(tmp_path / "drawn.safetensors")
    assert same(Params.load(tmp_path / "drawn.safetensors"), whole)
    assert [path.name for path in tmp_path.iterdir()] == ["drawn.safetensors"]
    assert (tmp_path / "drawn.safetensors").stat().st_size < 5 * 256 + 2048  # rows and a header


def test_a_file_of_something_else_is_refused(tmp_path):
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(2)}, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="expected a record of drawn values, got .*weights.safetensors"):
        Params.load(tmp_path / "weights.safetensors")


@given(quality=st.integers(1, 100), row=st.integers(0, 3))
def test_one_value_replaced_leaves_the_others(quality, row):
    whole = drawn(4)
    each = whole.values["jpeg.quality"].clone()
    each[row] = quality
    changed = whole.replace({"jpeg.quality": each})
    assert changed.values["jpeg.quality"].tolist() == each.tolist()
    assert all(
        torch.equal(value, whole.values[name]) for name, value in changed.values.items() if name != "jpeg.quality"
    )
    assert same(changed.replace(quality=whole.values["jpeg.quality"]), whole)


def test_a_name_of_several_values_is_refused():
    with pytest.raises(ValueError, match="expected one value called key, got 0"):
        Chain(ops=(Round(),)).sample((8, 8), torch.Generator()).replace(key=1)
    two = Chain(ops=(GaussianNoise(), Jpeg(), GaussianNoise()))
    values = two.sample((8, 8), torch.Generator())
    with pytest.raises(ValueError, match="got 2; choose of gaussian_noise.sigma, gaussian_noise_2.sigma"):
        values.replace(sigma=1)
    assert values.replace({"gaussian_noise_2.sigma": 3}).values["gaussian_noise_2.sigma"].tolist() == [3]


def test_records_of_different_ops_are_not_put_together():
    with pytest.raises(ValueError, match="one or more records drawn from the same op"):
        concatenate([drawn(1), drawn(1, name="gfpgan")])
    with pytest.raises(ValueError, match="one or more records"):
        concatenate([])


def test_a_row_is_described_in_plain_values():
    said = drawn(2).describe(1)
    assert isinstance(said["jpeg.quality"], int)
    assert len(said["gaussian_blur.sigma"]) == 2


def test_a_record_of_no_values_still_replays():
    op, image = preset("codeformer-I"), photograph(64)
    result, values = op.trace(image, generator=torch.Generator().manual_seed(0))
    assert torch.equal(op.apply(image, values), result) and torch.equal(result, image)

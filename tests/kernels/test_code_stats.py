"""Counts and sums by code: exact counts, and sums added row after row, whatever runs, the layout and the threads."""

import pytest
import torch
from einops import rearrange
from hypothesis import given
from hypothesis import strategies as st
from torch.library import opcheck

from codeprior.kernels import ImplUnavailable, _compile, code_stats, explain, lookup
from codeprior.kernels.code_stats import compiled

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


@pytest.fixture(params=["compiled", "reference"])
def impl(request):
    if request.param == "compiled" and _compile.why_not("code_stats"):
        pytest.skip(_compile.why_not("code_stats"))
    return request.param


@pytest.fixture
def threads():
    """Sets the count of threads, and sets it back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def in_order(rows, indices, size):
    """Each code's rows added in their order, in the type of the sum."""
    sums = torch.zeros(size, rows.shape[1], dtype=torch.promote_types(rows.dtype, torch.float32))
    for row, index in zip(rows, indices, strict=True):
        sums[index] += row
    return sums


def same_bits(mine, theirs):
    """Equal, and zeros of the same sign."""
    return torch.equal(mine, theirs) and torch.equal(mine.signbit(), theirs.signbit())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", [0, 1, 8, 15, 16, 33, 256])
def test_every_width_and_type_is_added_row_after_row(impl, dim, dtype):
    rows, indices = torch.randn(150, dim).to(dtype), torch.randint(0, 9, (150,))
    rows[indices == 4] = -0.0
    found = code_stats(rows, indices, size=11, impl=impl)
    assert found.counts.dtype == torch.int64 and torch.equal(found.counts, torch.bincount(indices, minlength=11))
    assert found.sums.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert same_bits(found.sums, in_order(rows, indices, 11))


@given(
    st.integers(0, 3), st.integers(1, 70), st.integers(1, 40), st.integers(1, 30), st.sampled_from(DTYPES),
    st.sampled_from(["rows", "images", "apart", "turned", "every other", "repeated"]), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_any_layout_agrees_with_float64_to_the_bound_of_its_rounding(batch, length, dim, size, dtype, layout, seed):
    if reason := _compile.why_not("code_stats"):
        pytest.skip(reason)
    generator = torch.Generator().manual_seed(seed)
    plain = torch.randn(batch, length, dim, generator=generator).to(dtype)
    indices = torch.randint(0, size, (batch, length), generator=generator)
    latent = {
        "rows": lambda: plain,
        "images": lambda: rearrange(plain, "b s d -> b d s 1").contiguous(),
        "apart": lambda: torch.stack([plain, plain + 1], -1)[..., 0],
        "turned": lambda: rearrange(rearrange(plain, "b s d -> d s b").contiguous(), "d s b -> b s d"),
        "every other": lambda: torch.stack([plain, plain + 1], 2)[:, :, 0],
        "repeated": lambda: plain[:, :1, :1].expand(batch, length, dim),
    }[layout]()
    grid = rearrange(indices, "b s -> b s 1") if layout == "images" else indices
    rows = rearrange(latent, "b d s 1 -> (b s) d" if layout == "images" else "b s d -> (b s) d").double()
    found = code_stats(latent, grid, size=size, impl="compiled")
    assert torch.equal(found.counts, torch.bincount(indices.flatten(), minlength=size))
    truth = torch.zeros(size, dim, dtype=torch.float64).index_add_(0, indices.flatten(), rows)
    amount = torch.zeros(size, dim, dtype=torch.float64).index_add_(0, indices.flatten(), rows.abs())
    # n terms added one after the other: at most n roundings of 2^-24, or 2^-53, of the sum of magnitudes
    unit = 2.0 ** (-53 if dtype == torch.float64 else -24)
    assert ((found.sums - truth).abs() <= 2 * unit * found.counts[:, None] * amount).all()
    again = code_stats(latent, grid, size=size, impl="reference")
    assert same_bits(found.sums, again.sums) and torch.equal(found.counts, again.counts)


@pytest.mark.parametrize("layout", ["b s d -> b s d", "b s d -> b d s 1"])
@pytest.mark.parametrize("crowd", [1, 300])
def test_the_same_bits_at_every_run_and_for_any_count_of_threads(impl, layout, crowd, threads, monkeypatch):
    monkeypatch.setattr(compiled, "_THREADED", 0)
    rows, indices = torch.randn(2, 700, 150), torch.randint(0, crowd, (2, 700))
    latent = rearrange(rows, layout).contiguous()
    grid = indices if latent.ndim == 3 else rearrange(indices, "b s -> b s 1")
    expected = in_order(rearrange(rows, "b s d -> (b s) d"), indices.flatten(), 301)
    for count in (1, 2, 3, 7, 64, 1):
        threads(count)
        found = code_stats(latent, grid, size=301, impl=impl)
        assert same_bits(found.sums, expected)
        assert torch.equal(found.counts, torch.bincount(indices.flatten(), minlength=301))


def test_a_large_problem_takes_threads_by_itself(threads):
    rows, indices = torch.randn(9000, 130), torch.randint(0, 500, (9000,))
    assert rows.numel() > compiled._THREADED
    threads(1)
    once = code_stats(rows, indices, size=500)
    threads(2)
    again = code_stats(rows, indices, size=500)
    assert same_bits(once.sums, again.sums) and torch.equal(once.counts, again.counts)
    assert same_bits(once.sums, code_stats(rows, indices, size=500, impl="reference").sums)


def test_nothing_comes_of_no_vectors(impl):
    for latent, indices in (
        (torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)),
        (torch.zeros(0, 3, 2, 2), torch.zeros(0, 2, 2, dtype=torch.int64)),
    ):
        found = code_stats(latent, indices, size=4, impl=impl)
        assert torch.equal(found.counts, torch.zeros(4, dtype=torch.int64))
        assert same_bits(found.sums, torch.zeros(4, 3))


@pytest.mark.parametrize("stray", [5, -1, 2**40, -(2**63)])
def test_an_index_that_is_no_code_is_refused(impl, stray):
    indices = torch.tensor([0, 4, stray, 2])
    with pytest.raises(RuntimeError, match=f"index {stray} is out of bounds|in \\[0, 5\\), got {stray}"):
        code_stats(torch.ones(4, 3), indices, size=5, impl=impl)


def test_numbers_that_are_not_finite_stay_with_their_code_and_column(impl):
    rows = torch.ones(6, 20)
    rows[0, 3], rows[1, 4], rows[2, 4] = torch.nan, torch.inf, -torch.inf
    found = code_stats(rows, torch.tensor([0, 1, 1, 2, 2, 0]), size=3, impl=impl).sums
    assert found[0, 3].isnan() and found[1, 4].isnan()
    assert int(found.isfinite().sum()) == 58 and bool((found[found.isfinite()] == 2).all())


def test_indices_may_lie_apart_and_others_than_int64_go_to_the_reference(impl):
    rows, indices = torch.randn(40, 5), torch.randint(0, 7, (40, 2))
    expected = in_order(rows, indices[:, 0], 7)
    assert same_bits(code_stats(rows, indices[:, 0], size=7, impl=impl).sums, expected)
    short = indices[:, 0].int()
    assert same_bits(code_stats(rows, short, size=7).sums, expected)
    with pytest.raises(ImplUnavailable, match="it reads int64 indices"):
        code_stats(rows, short, size=7, impl="compiled")


def test_it_runs_by_default_where_it_can_and_a_small_problem_does_not_wait(tmp_path, monkeypatch):
    if reason := _compile.why_not("code_stats"):
        pytest.skip(reason)
    assert "code_stats: compiled runs (auto)" in explain("cpu")
    monkeypatch.setenv("CODEPRIOR_CACHE", str(tmp_path))
    code_stats(torch.ones(2, 3), torch.tensor([0, 1]), size=2)
    assert not list(tmp_path.iterdir())
    code_stats(torch.ones(2**10, 2**8), torch.zeros(2**10, dtype=torch.int64), size=2)
    assert [path.stem.split("-")[0] for path in tmp_path.iterdir()] == ["stats"]
    monkeypatch.setenv("CODEPRIOR_CACHE", "off")
    assert "code_stats: reference runs (auto)" in explain("cpu")
    assert int(code_stats(torch.ones(2**10, 2**8), torch.zeros(2**10, dtype=torch.int64), size=2).sums[0, 0]) == 2**10
    with pytest.raises(ImplUnavailable, match="compiling is turned off by CODEPRIOR_CACHE"):
        code_stats(torch.ones(2, 3), torch.tensor([0, 1]), size=2, impl="compiled")


def test_the_op_passes_the_checks_of_torch_library(impl):
    arguments = (torch.randn(2, 9, 3), torch.randint(0, 5, (18,)), 5, impl)
    opcheck(torch.ops.codeprior.code_stats.default, arguments)
    opcheck(torch.ops.codeprior.code_stats.default, (torch.randn(2, 3, 9).mT, *arguments[1:]))


@pytest.mark.slow
def test_a_lookup_with_its_gradient_compiles_without_a_break_for_any_size():
    def loss(latent, table):
        found = lookup(latent, table)
        return found.codes.square().sum() + found.distances.sum()

    whole, table = torch.compile(loss, fullgraph=True, dynamic=True), torch.randn(11, 4, requires_grad=True)
    for size in (3, 5):
        latent = torch.randn(2, 4, size, size)
        (mine,) = torch.autograd.grad(whole(latent, table), table)
        (theirs,) = torch.autograd.grad(loss(latent, table), table)
        # the compiler reorders the factors before the sums, float32
        assert torch.allclose(mine, theirs, rtol=1e-5, atol=1e-5)

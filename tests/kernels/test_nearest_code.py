"""The lookup on the CPU: the float64 argmin, lowest index on ties, for any layout, type and way to cut up the work."""

import gc

import pytest
import torch
from einops import rearrange
from hypothesis import given
from hypothesis import strategies as st
from torch.library import opcheck

from codeprior.kernels import ImplUnavailable, _compile, code_stats, lookup, nearest_code, use_impl
from codeprior.kernels.nearest_code import blocked, compiled, settle
from tests.kernels.families import families, truth

IMPLEMENTATIONS = ["compiled", "blocked", "reference"]


@pytest.fixture(params=IMPLEMENTATIONS)
def impl(request):
    if request.param == "compiled" and _compile.why_not("nearest_code"):
        pytest.skip(_compile.why_not("nearest_code"))
    return request.param


@pytest.mark.parametrize("dim", [1, 4, 8, 16, 33, 256])
def test_every_family_gets_the_float64_argmin(impl, dim):
    for name, (rows, codebook) in families(dim).items():
        assert torch.equal(nearest_code(rows, codebook, impl=impl), truth(rows, codebook)), name


def test_many_codes_and_rows_cross_every_block(impl):
    generator = torch.Generator().manual_seed(1)
    rows, codebook = torch.randn(2500, 3, generator=generator), torch.randn(2300, 3, generator=generator)
    assert torch.equal(nearest_code(rows, codebook, impl=impl), truth(rows, codebook))


@pytest.mark.parametrize("dim", [2, 5, 31, 32, 100, 257, 300, 512])
def test_every_width_and_ragged_table_gets_the_float64_argmin(impl, dim):
    generator = torch.Generator().manual_seed(dim)
    for codes in (1, 15, 17, 33, 131):
        rows = torch.randn(101, dim, generator=generator) + 3
        codebook = torch.randn(codes, dim, generator=generator) + 3
        latent = rearrange(rows, "n d -> 1 d n 1").contiguous()
        expected = truth(rows, codebook)
        assert torch.equal(nearest_code(rows, codebook, impl=impl), expected)
        assert torch.equal(nearest_code(latent, codebook, impl=impl).flatten(), expected)


def test_statistics_are_the_same_at_every_run_and_for_any_count_of_threads():
    rows, indices = torch.randn(5000, 24), torch.randint(0, 40, (5000,))
    once = code_stats(rows, indices, size=41)
    in_order = torch.zeros(41, 24)
    for row, index in zip(rows, indices, strict=True):
        in_order[index] += row
    assert torch.equal(once.sums, in_order)
    assert torch.equal(once.counts, torch.bincount(indices, minlength=41))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert torch.equal(code_stats(rows, indices, size=41).sums, once.sums)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("width", [8, 300])
@pytest.mark.parametrize("threads", [1, 3])
def test_threads_parts_of_the_table_and_chunks_of_rows_do_not_matter(width, threads, monkeypatch):
    if reason := _compile.why_not("nearest_code"):
        pytest.skip(reason)
    # more codes than are packed at a time, more rows than lie between two packings, near ties in every part
    rows, codes = (70_000, 40) if width == 8 else (800, 9000)
    codebook = torch.randn(codes, width).bfloat16().float()
    chosen = torch.randint(0, codes, (rows,))
    latent = codebook[chosen] + 1e-3
    codebook = torch.cat([codebook, codebook.flip(0)])
    latent = rearrange(latent, "(b s) d -> b d s 1", b=4).contiguous()
    monkeypatch.setattr(compiled, "_THREADED", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = nearest_code(latent, codebook, impl="compiled").flatten()
    finally:
        torch.set_num_threads(before)
    # each row lies beside its code, and of the two that are equal the first is asked for
    assert torch.equal(found, chosen)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_types_are_compared_as_they_are(impl, dtype):
    if impl == "compiled" and dtype == torch.float64:
        with pytest.raises(ImplUnavailable, match="it screens float32 and half precision, not float64"):
            nearest_code(torch.zeros(1, 8).double(), torch.zeros(2, 8), impl=impl)
        return
    for name, (rows, codebook) in families(8).items():
        if dtype == torch.float16 and codebook.abs().max() > 6e4:
            continue
        rows, codebook = rows.to(dtype), codebook.to(dtype)
        assert torch.equal(nearest_code(rows, codebook, impl=impl), truth(rows, codebook)), name


@pytest.mark.parametrize("impl", ["blocked", "reference"])
def test_float64_differences_below_float32_are_seen(impl):
    codebook = torch.tensor([[1.0], [1.0 + 1e-12]], dtype=torch.float64)
    assert nearest_code(codebook, codebook, impl=impl).tolist() == [0, 1]


def test_ties_go_to_the_lowest_index(impl):
    codebook = torch.tensor([[2.0], [1.0], [-1.0], [1.0]])
    assert nearest_code(torch.tensor([[0.0], [1.5], [1.0]]), codebook, impl=impl).tolist() == [1, 0, 1]


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_rows_that_are_not_finite_get_zero_and_codes_that_are_not_finite_are_passed_over(impl, mode):
    generator = torch.Generator().manual_seed(2)
    rows, codebook = torch.randn(6, 8, generator=generator), torch.randn(40, 8, generator=generator)
    rows[1, 3], rows[2, 0], rows[3, 5] = torch.nan, torch.inf, -torch.inf
    clean = truth(rows, codebook)
    for spoiled in (None, torch.nan, torch.inf):
        if spoiled is not None:
            codebook[int(clean[0]), 2] = spoiled
        found = lookup(rows, codebook, impl=impl, mode=mode)
        assert torch.equal(found.indices, nearest_code(rows, codebook, impl=impl, mode=mode))
        distances = (rows.double()[:, None] - codebook.double()).square().sum(-1).nan_to_num(torch.inf, torch.inf)
        assert found.indices[1:4].tolist() == [0, 0, 0]
        assert torch.equal(found.indices[[0, 4, 5]], distances.argmin(1)[[0, 4, 5]])
        assert found.codes[1:4].isnan().all() and found.distances[1:4].isnan().all()
        assert torch.equal(found.codes[[0, 4, 5]], codebook[found.indices[[0, 4, 5]]])
        assert found.distances[[0, 4, 5]].isfinite().all()
        assert torch.equal(found.counts, torch.bincount(found.indices, minlength=40))


@pytest.mark.parametrize("mode", ["exact", "fast"])
def test_where_no_code_is_finite_every_row_gets_zero_and_nan(impl, mode):
    codebook = torch.randn(5, 8)
    codebook[:, 1] = torch.tensor([torch.inf, torch.nan, -torch.inf, torch.inf, torch.nan])
    found = lookup(torch.randn(2, 8, 3, 3), codebook, impl=impl, mode=mode)
    assert found.indices.eq(0).all() and found.codes.isnan().all() and found.distances.isnan().all()


def test_a_distance_that_overflows_float32_is_infinite_and_its_code_is_kept(impl):
    rows, codebook = torch.tensor([[3e38, 0.0], [1.0, 1.0]]), torch.tensor([[-3e38, 0.0], [-2e38, 0.0]])
    found = lookup(rows, codebook, impl=impl)
    assert torch.equal(found.indices, truth(rows, codebook)) and torch.equal(found.codes, codebook[found.indices])
    assert found.distances.isinf().all()


@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 50), st.integers(1, 90)),
    layout=st.sampled_from(["rows", "tokens", "grid", "channels last", "every other"]),
    spread=st.sampled_from([1e-20, 1e-3, 1.0, 1e4]),
)
def test_layout_stride_and_scale_do_not_matter(seed, sizes, layout, spread):
    batch, length, dim, codes = sizes
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(batch, length, dim, generator=generator) * spread
    codebook = torch.randn(codes, dim, generator=generator)
    expected = truth(rearrange(tokens, "b t d -> (b t) d"), codebook)
    grid = rearrange(tokens, "b t d -> b d t 1").contiguous()
    latent = {
        "rows": rearrange(tokens, "b t d -> (b t) d"),
        "tokens": tokens,
        "grid": grid,
        "channels last": grid.to(memory_format=torch.channels_last),
        "every other": torch.stack([tokens, torch.full_like(tokens, torch.nan)], -1)[..., 0],
    }[layout]
    for name in ("blocked", "compiled"):
        if name == "compiled" and _compile.why_not("nearest_code"):
            continue
        assert torch.equal(nearest_code(latent, codebook, impl=name).flatten(), expected)


def test_the_way_the_work_is_cut_up_does_not_matter(monkeypatch):
    rows, codebook = torch.randn(1, 700, 5), torch.randn(333, 5)
    whole = blocked.nearest_rows(rows, codebook)
    for size in (7, 64):
        monkeypatch.setattr(blocked, "_ROWS", size)
        monkeypatch.setattr(blocked, "_CODES", size + 2)
        monkeypatch.setattr(blocked, "_PANEL", 64)
        monkeypatch.setattr(blocked, "_SHORT", 0 if size == 7 else 16)
        monkeypatch.setattr(settle, "_SCORES", 64)
        assert torch.equal(blocked.nearest_rows(rows, codebook), whole)


def test_a_search_leaves_no_table_behind():
    """A table that only the garbage collector frees is new memory at every call, which costs as much as a product."""
    gc.collect(), gc.disable()
    try:
        blocked.nearest_rows(torch.randn(1, 30, 5), torch.randn(20, 5))
        assert not [found for found in gc.get_objects() if type(found) is blocked._Table]
    finally:
        gc.enable()


def test_the_bound_holds_for_the_screen_it_certifies():
    for rows, codebook in families(64, rows=200, codes=150).values():
        centre = settle.middle(codebook)
        x, c = rows - centre, codebook - centre
        scores = torch.addmm(c.square().sum(1) / 2, x, c.T, alpha=-1).double()
        exact = (codebook.double() - centre.double()).square().sum(1) / 2
        exact = exact - (rows.double() - centre.double()) @ (codebook.double() - centre.double()).T
        longest = torch.linalg.vector_norm(c, dim=1).max()
        reach = settle.margin(torch.linalg.vector_norm(x, dim=1), longest, width=64)
        fine = reach.isfinite()
        assert ((scores - exact).abs().amax(1) <= reach / 2)[fine].all()


def test_fast_mode_is_within_float32_rounding_of_the_nearest(impl):
    for name, (rows, codebook) in families(16).items():
        found = nearest_code(rows, codebook, impl=impl, mode="fast")
        distances = (rows.double()[:, None] - codebook.double()).square().sum(-1)
        regret = distances.gather(1, found[:, None])[:, 0] - distances.amin(1)
        # twice the screen's bound, in units of distance; beyond float32's range it promises nothing
        scale = (rows.double().norm(dim=1) + codebook.double().norm(dim=1).max()) ** 2
        if name not in ("squares overflow", "squares underflow"):
            assert (regret <= 4 * 24 * 2.0**-24 * scale).all(), name


def test_lookup_gives_codes_distances_and_counts_in_the_latents_layout(impl):
    codebook = torch.randn(20, 8)
    for latent in (torch.randn(2, 8, 3, 5), torch.randn(2, 8, 3, 5).to(memory_format=torch.channels_last)):
        found = lookup(latent, codebook, impl=impl)
        rows = rearrange(latent, "b d h w -> (b h w) d")
        expected = truth(rows, codebook)
        assert torch.equal(found.indices.flatten(), expected)
        assert torch.equal(rearrange(found.codes, "b d h w -> (b h w) d"), codebook[expected])
        assert found.codes.stride() == latent.stride()
        assert torch.equal(found.counts, torch.bincount(expected, minlength=20))
        # a float32 sum of eight squares
        assert torch.allclose(found.distances.flatten(), (rows - codebook[expected]).square().sum(1), rtol=1e-6)


def test_gradients_are_those_of_the_written_out_form():
    latent = torch.randn(2, 6, 3, 4, dtype=torch.float64, requires_grad=True)
    codebook = torch.randn(9, 6, dtype=torch.float64, requires_grad=True)
    first, second = torch.randn_like(latent), torch.randn(2, 3, 4, dtype=torch.float64)
    found = lookup(latent, codebook)
    ours = torch.autograd.grad((found.codes * first).sum() + (found.distances * second).sum(), (latent, codebook))
    codes = rearrange(codebook[found.indices], "b h w d -> b d h w")
    written = (codes * first).sum() + ((latent - codes).square().sum(1) * second).sum()
    for mine, theirs in zip(ours, torch.autograd.grad(written, (latent, codebook)), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-12, atol=1e-12)


def test_the_registered_ops_pass_the_checks_of_torch_library():
    rows, codebook = torch.randn(2, 9, 4), torch.randn(7, 4)
    opcheck(torch.ops.codeprior.nearest_code.default, (rows, codebook, "blocked", True))
    rows.requires_grad_(), codebook.requires_grad_()
    opcheck(torch.ops.codeprior.lookup.default, (rows, codebook, "blocked", True))


@pytest.mark.slow
def test_the_whole_compiles_without_a_break_for_any_size():
    def forward(latent, codebook):
        found = lookup(latent, codebook)
        return found.codes + 1, found.indices, code_stats(latent, found.indices, size=len(codebook)).sums

    whole = torch.compile(forward, fullgraph=True, dynamic=True)
    codebook = torch.randn(11, 4)
    for size in (3, 5):
        latent = torch.randn(2, 4, size, size)
        for mine, theirs in zip(whole(latent, codebook), forward(latent, codebook), strict=True):
            assert torch.equal(mine, theirs)


@pytest.mark.slow
def test_the_whole_can_be_exported():
    class Quantizer(torch.nn.Module):
        def forward(self, latent, codebook):
            return nearest_code(latent, codebook)

    latent, codebook = torch.randn(2, 4, 3, 3), torch.randn(11, 4)
    program = torch.export.export(Quantizer(), (latent, codebook))
    assert torch.equal(program.module()(latent, codebook), nearest_code(latent, codebook))


def test_autocast_does_not_lower_the_precision(impl):
    for name, (rows, codebook) in families(32, rows=64, codes=130).items():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = lookup(rows, codebook, impl=impl)
        assert torch.equal(found.indices, truth(rows, codebook)), name
        assert found.codes.dtype == torch.float32


@pytest.mark.parametrize(("precision", "bits"), [("high", 11), ("medium", 8)])
def test_products_of_fewer_bits_that_torch_was_asked_for_do_not_change_an_index(precision, bits, monkeypatch):
    """Emulated: which processor and device take a float32 product so is theirs to say."""
    addmm, mm = torch.addmm, torch.mm

    def rounded(x):
        mantissa, exponent = torch.frexp(x.double())
        return torch.ldexp((mantissa * 2**bits).round() / 2**bits, exponent).float()

    def coarse(half, rows, codes, **options):
        return addmm(half, rounded(rows), rounded(codes), **options)

    def coarse_product(rows, codes, **options):
        return mm(rounded(rows), rounded(codes), **options)

    before = torch.get_float32_matmul_precision()
    monkeypatch.setattr(torch, "addmm", coarse)
    monkeypatch.setattr(torch, "mm", coarse_product)
    wrong = {}
    try:
        for asked in ("highest", precision):
            torch.set_float32_matmul_precision(asked)
            rows, codebook = families(32, rows=64, codes=130)["between two codes"]
            found = nearest_code(rows, codebook, impl="blocked")
            wrong[asked] = int((found != truth(rows, codebook)).sum())
    finally:
        torch.set_float32_matmul_precision(before)
    assert wrong[precision] == 0
    # the emulation does what it is for
    assert wrong["highest"] > 0


def test_nothing_to_look_up_gives_nothing(impl):
    assert nearest_code(torch.zeros(0, 4), torch.zeros(3, 4), impl=impl).shape == (0,)
    assert nearest_code(torch.zeros(2, 4, 0, 3), torch.zeros(3, 4), impl=impl).shape == (2, 0, 3)


def test_wrong_calls_say_what_was_expected():
    with pytest.raises(ValueError, match=r"expected latent \(n, 4\).*got \(2, 3\)"):
        nearest_code(torch.zeros(2, 3), torch.zeros(5, 4))
    with pytest.raises(ValueError, match=r"expected a codebook \(k, d\) that is not empty, got \(0, 4\)"):
        nearest_code(torch.zeros(2, 4), torch.zeros(0, 4))
    with pytest.raises(ValueError, match="expected mode 'exact' or 'fast', got 'slow'"):
        lookup(torch.zeros(2, 4), torch.zeros(5, 4), mode="slow")
    with pytest.raises(ImplUnavailable, match="impl= asks for 'gpu'; there are compiled, blocked"):
        nearest_code(torch.zeros(2, 4), torch.zeros(5, 4), impl="gpu")
    double = torch.zeros(2, 4, device="cuda" if torch.cuda.is_available() else "cpu").double()
    with use_impl("nearest_code=triton"), pytest.raises(ImplUnavailable, match=r"use_impl asks .*not float64"):
        nearest_code(double, double)

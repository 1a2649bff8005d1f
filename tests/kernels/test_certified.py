"""The Triton kernel that ships, in the interpreter where there is no GPU: never a wrong index, however it is cut up."""

import pytest
import torch
from einops import rearrange

from codeprior.kernels import code_stats, lookup, nearest_code
from codeprior.kernels.nearest_code.fused import Tiles, choose_tiles, launch, prepare
from tests.kernels.families import families, truth

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PLAIN = Tiles(rows=16, codes=32, group=1, warps=4, stages=1, split=1)
GROUPED = Tiles(rows=16, codes=64, group=8, warps=4, stages=1, split=1)
SPLIT = Tiles(rows=16, codes=32, group=1, warps=4, stages=1, split=3)


def search(rows, codebook, *, tiles: Tiles = PLAIN, exact: bool = True):
    told = torch.zeros(2, dtype=torch.int32, device=DEVICE)
    found = launch(rows[None].to(DEVICE), codebook.to(DEVICE), tiles=tiles, told=told, exact=exact)
    return found[2][0].cpu(), told.tolist()


# many float64 comparisons a row take long in the interpreter
CROWDED = pytest.param("all codes equal", marks=pytest.mark.slow)


@pytest.mark.parametrize("name", [CROWDED if name == "all codes equal" else name for name in families(16)])
def test_every_family_gets_the_float64_argmin(name):
    rows, codebook = families(16, rows=20, codes=70)[name]
    assert torch.equal(search(rows, codebook)[0], truth(rows, codebook))


@pytest.mark.parametrize("tiles", [GROUPED, SPLIT], ids=["groups of codes", "codes split over programs"])
@pytest.mark.parametrize("name", ["normal", "every code nine times", "exact ties of integers", "squares overflow"])
def test_groups_and_splits_give_the_same_indices(tiles, name):
    rows, codebook = families(5, rows=17, codes=70)[name]
    assert torch.equal(search(rows, codebook, tiles=tiles)[0], truth(rows, codebook))


def test_few_codes_are_scored_twice():
    rows, codebook = families(32, rows=32, codes=100)["normal"]
    _, (candidates, slow) = search(rows, codebook)
    # the specification's simulation: 1.06 codes a row at width 256, more where rows are short
    assert candidates <= 1.5 * 32
    assert slow == 0


def test_crowded_slots_fall_back_to_the_whole_table():
    rows, codebook = families(16, rows=16)["all codes equal"]
    codebook = codebook[:1].repeat(100, 1)
    found, (_, slow) = search(rows, codebook)
    assert slow == 16
    assert torch.equal(found, torch.zeros(16, dtype=torch.int64))


def test_memory_full_of_nan_does_not_leak_into_the_result(monkeypatch):
    empty = torch.empty

    def poisoned(*shape, **options):
        tensor = empty(*shape, **options)
        return tensor.fill_(torch.nan) if tensor.is_floating_point() else tensor.fill_(-7)

    rows, codebook = families(5, rows=11, codes=37)["normal"]
    monkeypatch.setattr(torch, "empty", poisoned)
    monkeypatch.setattr(torch, "empty_like", lambda like: torch.full_like(like, torch.nan))
    for tiles in (PLAIN, SPLIT):
        codes, distances, indices, counts = launch(rows[None].to(DEVICE), codebook.to(DEVICE), tiles=tiles)
        expected = truth(rows, codebook)
        assert torch.equal(indices[0].cpu(), expected)
        assert torch.equal(codes[0].cpu(), codebook[expected])
        assert torch.equal(counts.cpu(), torch.bincount(expected, minlength=37))
        exact = (rows.double() - codebook[expected].double()).square().sum(1).float()
        assert torch.equal(distances[0].cpu(), exact)


@pytest.mark.parametrize("layout", ["grid", "channels last", "tokens"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_layout_and_type_is_read_in_place(layout, dtype):
    codebook = torch.randn(33, 6)
    grid = torch.randn(2, 6, 3, 2).to(dtype)
    latent = {
        "grid": grid,
        "channels last": grid.to(memory_format=torch.channels_last),
        "tokens": rearrange(grid, "b d h w -> b (h w) d"),
    }[layout].to(DEVICE)
    found = lookup(latent, codebook.to(DEVICE), impl="triton")
    rows = rearrange(grid, "b d h w -> (b h w) d")
    expected = truth(rows, codebook)
    assert torch.equal(found.indices.flatten().cpu(), expected)
    assert found.codes.stride() == latent.stride()
    assert found.codes.dtype == dtype
    codes = found.codes if latent.ndim == 3 else rearrange(found.codes, "b d h w -> b (h w) d")
    # the interpreter cuts bfloat16 off where a GPU rounds: one unit in the eighth bit
    slack = 0.0 if dtype == torch.float32 or DEVICE == "cuda" else 2.0**-7
    assert torch.allclose(codes.flatten(0, 1).cpu().float(), codebook[expected].to(dtype).float(), rtol=slack, atol=0)


def test_rows_and_codes_that_are_not_finite_are_told_apart():
    rows, codebook = torch.randn(16, 8), torch.randn(40, 8)
    rows[1, 3], rows[2, 0] = torch.nan, -torch.inf
    distances = launch(rows[None].to(DEVICE), codebook.to(DEVICE), tiles=PLAIN)[1][0].cpu()
    assert distances[1].isnan()
    assert distances[2] == torch.inf
    codebook[int(truth(rows[:1], codebook))] = torch.inf
    found = search(rows, codebook)[0]
    assert found[1:3].tolist() == [0, 0]
    assert torch.equal(found, nearest_code(rows, codebook, impl="reference"))


def test_fast_mode_gives_the_float16_winner():
    rows, codebook = families(16, rows=32, codes=70)["on the codes"]
    assert torch.equal(search(rows, codebook, exact=False)[0], truth(rows, codebook))


def test_gradients_pass_through_the_kernel():
    latent = torch.randn(1, 5, 7, device=DEVICE, requires_grad=True)
    codebook = torch.randn(9, 7, device=DEVICE, requires_grad=True)
    ours = [
        torch.autograd.grad(found.codes.square().sum() + found.distances.sum(), (latent, codebook))
        for found in (lookup(latent, codebook, impl=name) for name in ("triton", "reference"))
    ]
    for mine, theirs in zip(*ours, strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-6)


def test_the_constants_bound_what_float16_loses():
    codebook = torch.randn(50, 12) * 3 + 100
    centre, table, half, constants = prepare(codebook)
    scale, longest, rounding, tallest = constants.double()
    exact = (codebook.double() - centre.double()) / scale
    assert torch.log2(scale) == torch.log2(scale).round()
    assert (table.double().norm(dim=1) <= longest).all()
    assert ((exact - table.double()).norm(dim=1) <= rounding).all()
    assert (half.double() <= tallest).all()
    # twelve squares and their sum in float32
    assert torch.allclose(half.double(), exact.square().sum(1) / 2, rtol=14 * 2.0**-24)


@pytest.mark.parametrize("width", [1, 8, 16, 17, 64, 128, 256, 512])
@pytest.mark.parametrize("rows", [256, 65536])
def test_tiles_are_whole_groups_of_powers_of_two(width, rows):
    tiles = choose_tiles(rows, 1024, width)
    assert tiles.codes % (4 * tiles.group) == 0 or tiles.group == 1
    assert all(size & (size - 1) == 0 for size in (tiles.rows, tiles.codes, tiles.group, tiles.warps))
    assert 1 <= tiles.split <= 32


def test_sums_by_code_agree_with_the_reference():
    rows, indices = torch.randn(90, 5), torch.randint(0, 7, (90,))
    indices[indices == 3] = 2
    mine = code_stats(rows.to(DEVICE), indices.to(DEVICE), size=7, impl="triton")
    theirs = code_stats(rows.double(), indices, size=7, impl="reference")
    assert torch.equal(mine.counts.cpu(), theirs.counts)
    # float32 sums of at most 30 numbers of order one
    assert torch.allclose(mine.sums.cpu().double(), theirs.sums, atol=1e-5)

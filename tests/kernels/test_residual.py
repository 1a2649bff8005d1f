"""The residual lookup: all stages on the device give what a lookup for each stage gives."""

import pytest
import torch
from einops import rearrange

from codeprior.kernels import ImplUnavailable, residual_code
from codeprior.kernels.nearest_code.fused import Tiles
from codeprior.kernels.nearest_code.prepared import prepare
from codeprior.kernels.nearest_code.residual import launch
from tests.kernels.families import families, truth

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CROWDED = ["exact ties of integers", "every code nine times"]  # many float64 comparisons in the interpreter
TILES = Tiles(rows=16, codes=32, group=1, warps=4, stages=1, split=1)


def by_definition(rows, codebooks):
    found = []
    for table in codebooks:
        found.append(truth(rows, table))
        rows = rows - table[found[-1]]
    return torch.stack(found, 1)


@pytest.mark.parametrize(
    "name",
    ["normal", "offset of 50", "zeros", *(pytest.param(name, marks=pytest.mark.slow) for name in CROWDED)],
)
def test_every_stage_gets_the_float64_argmin_of_what_is_left(name):
    rows, first = families(5, rows=19, codes=40)[name]
    codebooks = torch.stack([first, first.flip(0) / 2, first / 4])
    expected = by_definition(rows, codebooks)
    assert torch.equal(launch(rows.to(DEVICE), codebooks.to(DEVICE), tiles=TILES).cpu(), expected)
    assert torch.equal(residual_code(rows, codebooks, impl="reference"), expected)


@pytest.mark.parametrize("impl", ["triton", "reference"])
def test_every_layout_gets_its_stages_in_place(impl):
    grid, codebooks = torch.randn(2, 6, 3, 2), torch.randn(2, 33, 6)
    expected = by_definition(rearrange(grid, "b d h w -> (b h w) d"), codebooks)
    for latent, pattern in (
        (grid, "b m h w -> (b h w) m"),
        (grid.to(memory_format=torch.channels_last), "b m h w -> (b h w) m"),
        (rearrange(grid, "b d h w -> b (h w) d"), "b t m -> (b t) m"),
        (rearrange(grid, "b d h w -> (b h w) d"), "n m -> n m"),
    ):
        found = residual_code(latent.to(DEVICE), codebooks.to(DEVICE), impl=impl)
        assert torch.equal(rearrange(found, pattern).cpu(), expected)


@pytest.mark.parametrize("dtypes", [(torch.bfloat16, torch.float32), (torch.float16, torch.float16)])
def test_half_precision_leaves_its_rest_in_float32(dtypes):
    rows, codebooks = torch.randn(11, 6).to(dtypes[0]), (torch.randn(3, 35, 6) / 2).to(dtypes[1])
    expected = by_definition(rows.float(), codebooks.float())
    for impl in ("triton", "reference"):
        assert torch.equal(residual_code(rows.to(DEVICE), codebooks.to(DEVICE), impl=impl).cpu(), expected)


def test_tables_are_prepared_together_as_one_by_one():
    codebooks = torch.randn(3, 50, 12) * torch.tensor([1.0, 1e-3, 100.0])[:, None, None]
    each = [prepare(table.to(DEVICE), width=16) for table in codebooks]
    for together, alone in zip(prepare(codebooks.to(DEVICE), width=16), zip(*each, strict=True), strict=True):
        assert torch.equal(together, torch.stack(alone))


def test_the_rows_are_left_as_they_were():
    rows, codebooks = torch.randn(7, 4, device=DEVICE), torch.randn(2, 9, 4, device=DEVICE)
    before = rows.clone()
    residual_code(rows, codebooks, impl="triton")
    assert torch.equal(rows, before)


def test_rows_that_are_not_finite_get_zero_at_every_stage():
    rows, codebooks = torch.randn(7, 4), torch.randn(2, 9, 4)
    rows[3, 1], rows[5, 0] = torch.nan, torch.inf
    expected = residual_code(rows, codebooks, impl="reference")
    assert expected[[3, 5]].eq(0).all()
    assert torch.equal(residual_code(rows.to(DEVICE), codebooks.to(DEVICE), impl="triton").cpu(), expected)


def test_wrong_calls_say_what_was_expected():
    with pytest.raises(ValueError, match=r"expected codebooks \(m, k, d\), not empty, got \(3, 4\)"):
        residual_code(torch.zeros(2, 4), torch.zeros(3, 4))
    with pytest.raises(ValueError, match="expected mode 'exact' or 'fast', got 'slow'"):
        residual_code(torch.zeros(2, 4), torch.zeros(1, 3, 4), mode="slow")
    with pytest.raises(ImplUnavailable, match="it keeps what is left over in float32, not float64"):
        residual_code(torch.zeros(2, 4, device=DEVICE).double(), torch.zeros(1, 3, 4, device=DEVICE), impl="triton")

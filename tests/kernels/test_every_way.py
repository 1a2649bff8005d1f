"""Every family of data on which lookups go wrong, by every way that a call may take: always the float64 argmin."""

import pytest
import torch
from einops import rearrange

from codeprior.kernels import _compile, nearest_code
from codeprior.kernels._device import why_not_triton
from tests.kernels.families import families, truth

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def _every_other(rows: torch.Tensor) -> torch.Tensor:
    room = torch.full((2 * len(rows), 2 * rows.shape[1] + 1), torch.nan, dtype=rows.dtype, device=rows.device)
    room[1::2, 1::2] = rows
    return room[1::2, 1::2]


LAYOUTS = {
    "rows": lambda rows: rows,
    "transposed": lambda rows: rows.T.contiguous().T,
    "sliced": _every_other,
    "one dimension of batch": lambda rows: rearrange(rows, "(b t) d -> b t d", b=4),
    "one dimension of batch, sliced": lambda rows: rearrange(_every_other(rows), "(b t) d -> b t d", b=4),
    "three dimensions, channels first": lambda rows: rearrange(rows, "(b h w) d -> b d h w", b=2, h=4).contiguous(),
    "three dimensions, channels last": lambda rows: rearrange(rows, "(b h w) d -> b d h w", b=2, h=4),
}


@pytest.fixture(params=["compiled", "blocked", "reference"])
def impl(request):
    if request.param == "compiled" and _compile.why_not("nearest_code"):
        pytest.skip(_compile.why_not("nearest_code"))
    return request.param


@pytest.fixture
def device(impl):
    """Where an implementation is tried: on the GPU where there is one, unless it reads CPU tensors alone."""
    return "cpu" if impl == "compiled" else DEVICE


@pytest.mark.parametrize("dim", [8, 40])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_in_every_layout_and_type(impl, device, layout, dtype, dim):
    for name, (rows, codebook) in families(dim).items():
        if dtype == torch.float16 and max(rows.abs().max(), codebook.abs().max()) > 6e4:
            continue
        rows, codebook = rows.to(dtype), codebook.to(dtype)
        found = nearest_code(LAYOUTS[layout](rows.to(device)), codebook.to(device), impl=impl)
        assert torch.equal(found.flatten().cpu(), truth(rows, codebook)), name


@pytest.mark.parametrize("layout", ["transposed", "three dimensions, channels first"])
def test_under_autocast_in_half_precision(impl, device, layout):
    for name, (rows, codebook) in families(40).items():
        with torch.autocast(device, dtype=torch.bfloat16):
            found = nearest_code(LAYOUTS[layout](rows.to(device)), codebook.to(device), impl=impl)
        assert torch.equal(found.flatten().cpu(), truth(rows, codebook)), name


def test_through_the_compiler(impl, device):
    whole = torch.compile(
        lambda latent, codebook: nearest_code(latent, codebook, impl=impl), fullgraph=True, backend="aot_eager"
    )
    for name, (rows, codebook) in families(8, codes=72).items():
        for layout in ("sliced", "three dimensions, channels first"):
            found = whole(LAYOUTS[layout](rows.to(device)), codebook.to(device))
            assert torch.equal(found.flatten().cpu(), truth(rows, codebook)), (name, layout)


# many float64 comparisons a row take long in the interpreter
@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_by_the_triton_kernel(layout, dtype):
    if why_not_triton(DEVICE):
        pytest.skip(why_not_triton(DEVICE))
    for name, (rows, codebook) in families(8, rows=16, codes=36).items():
        rows, codebook = rows.to(dtype), codebook.to(dtype)
        with torch.autocast(DEVICE, dtype=torch.bfloat16):
            found = nearest_code(LAYOUTS[layout](rows.to(DEVICE)), codebook.to(DEVICE), impl="triton")
        assert torch.equal(found.flatten().cpu(), truth(rows, codebook)), name

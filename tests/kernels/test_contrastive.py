"""The symmetric cross-entropy without the matrix agrees with the one that writes it out, values and gradients."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.library import opcheck
from torch.nn import functional as F

from codeprior import distributed
from codeprior.kernels import ImplUnavailable, gathered_cross_entropy, symmetric_cross_entropy
from codeprior.kernels.contrastive import blocked, fused
from tests.training.ranks import on_ranks

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def sides(count: int, dim: int, *, seed: int = 0, dtype=torch.float32) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        F.normalize(torch.randn(count, dim, generator=generator, dtype=dtype), dim=1).requires_grad_() for _ in range(2)
    )


def loss_and_gradients(first, second, scale, impl):
    loss = symmetric_cross_entropy(first, second, scale=scale, impl=impl)
    return loss, *torch.autograd.grad(3 * loss, (first, second, scale))


@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 40),
    dim=st.integers(1, 20),
    scale=st.sampled_from([0.0, 14.3, 100.0]),
)
def test_blocks_agree_with_the_matrix(seed, count, dim, scale):
    first, second = sides(count, dim, seed=seed, dtype=torch.float64)
    scale = torch.tensor(scale, dtype=torch.float64, requires_grad=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocked, "_BLOCK", 16)
        mine = loss_and_gradients(first, second, scale, "blocked")
    for ours, theirs in zip(mine, loss_and_gradients(first, second, scale, "reference"), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("count", "dim"), [(70, 20), (1, 3)])
def test_the_kernel_agrees_with_the_matrix(count, dim):
    first, second = (side.detach().to(DEVICE).requires_grad_() for side in sides(count, dim))
    scale = torch.tensor(14.3, device=DEVICE, requires_grad=True)
    mine = loss_and_gradients(first, second, scale, "triton")
    for ours, theirs in zip(mine, loss_and_gradients(first, second, scale, "reference"), strict=True):
        # float32 sums of 70 terms, and logits of up to 14.3
        assert torch.allclose(ours, theirs, rtol=2e-5, atol=2e-6)


def test_large_logits_do_not_overflow():
    first, second = sides(20, 4)
    for impl in ("blocked", "triton", "reference"):
        loss = symmetric_cross_entropy(first.detach().to(DEVICE), first.detach().to(DEVICE), scale=1e4, impl=impl)
        assert loss.isfinite()
        # every row finds itself; the runner-up is at least 100 lower
        assert loss.abs() < 1e-3
    assert second.isfinite().all()


def test_autocast_does_not_lower_the_precision():
    first, second = sides(60, 16)
    exact = symmetric_cross_entropy(first.double(), second.double(), scale=14.3, impl="reference")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = symmetric_cross_entropy(first, second, scale=14.3, impl="blocked")
    assert abs(loss.double() - exact) < 1e-5


def test_a_number_as_scale_is_not_copied_from_the_host(monkeypatch):
    """A captured graph refuses such a copy."""
    monkeypatch.setattr(torch, "as_tensor", None)
    monkeypatch.setattr(torch, "tensor", None)
    first, second = sides(5, 3)
    assert symmetric_cross_entropy(first, second, scale=2.5).isfinite()


def test_half_precision_sides_get_half_precision_gradients():
    first, second = (side.detach().bfloat16().requires_grad_() for side in sides(30, 8))
    loss = symmetric_cross_entropy(first, second, scale=10)
    assert loss.dtype == torch.float32
    exact = symmetric_cross_entropy(first.double(), second.double(), scale=10, impl="reference")
    assert torch.allclose(loss.double(), exact, rtol=1e-5)
    assert torch.autograd.grad(loss, first)[0].dtype == torch.bfloat16


def test_the_registered_op_passes_the_checks_of_torch_library():
    scale = torch.tensor(10.0, requires_grad=True)
    opcheck(torch.ops.codeprior.symmetric_cross_entropy.default, (*sides(5, 3), scale))


@pytest.mark.parametrize("impl", ["blocked", "reference"])
def test_two_ranks_with_their_own_rows_agree_with_one_process_to_the_last_digits(impl):
    first, second = sides(2 * 11, 5, dtype=torch.float64)
    scale = torch.tensor(7.0, dtype=torch.float64, requires_grad=True)
    loss, *gradients = loss_and_gradients(first, second, scale, "reference")
    parts = on_ranks(2, _one_of_two, first.detach(), second.detach(), impl)
    for part in parts:
        assert abs(part["loss"] - loss.item()) < 1e-12
    # as DistributedDataParallel averages them
    for name, whole in zip(("first", "second"), gradients[:2], strict=True):
        mine = torch.cat([torch.tensor(part[name], dtype=torch.float64) for part in parts]) / 2
        assert torch.allclose(mine, whole, rtol=0, atol=1e-12)
    assert abs(sum(part["scale"] for part in parts) / 2 - gradients[2].item()) < 1e-12


def _one_of_two(first, second, impl):
    mine = slice(11 * distributed.rank(), 11 * distributed.rank() + 11)
    first, second = first[mine].requires_grad_(), second[mine].requires_grad_()
    scale = torch.tensor(7.0, dtype=torch.float64, requires_grad=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocked, "_BLOCK", 4)
        loss = gathered_cross_entropy(first, second, scale=scale, impl=impl)
        found = torch.autograd.grad(3 * loss, (first, second, scale))
    return {"loss": loss.item(), "first": found[0].tolist(), "second": found[1].tolist(), "scale": found[2].item()}


def test_alone_the_gathered_loss_is_the_plain_one():
    first, second = sides(9, 4)
    assert gathered_cross_entropy(first, second, scale=3) == symmetric_cross_entropy(first, second, scale=3)


def test_the_kernels_take_a_part_of_the_rows_against_all_columns():
    first, second = (side.detach() for side in sides(90, 20))
    part, scale = slice(40, 75), torch.tensor(14.3)
    rows, columns = ((14.3 * left @ right.T).logsumexp(1) for left, right in ((first, second), (second, first)))
    arguments = [value.to(DEVICE) for value in (first[part], second, scale)]
    for mine, theirs in zip(fused.sums(*arguments, 40), blocked.sums(*arguments, 40), strict=True):
        assert torch.allclose(mine, theirs, rtol=1e-5, atol=1e-5)
    arguments += [rows[part].to(DEVICE), columns.to(DEVICE)]
    for mine, theirs in zip(fused.slopes(*arguments, 40), blocked.slopes(*arguments, 40), strict=True):
        # float32 sums of 90 terms, and logits of up to 14.3
        assert torch.allclose(mine, theirs, rtol=1e-4, atol=1e-4)


def test_wrong_calls_say_what_was_expected():
    with pytest.raises(ValueError, match=r"two sides of one shape \(n, d\), not empty, got \(3, 2\) and \(4, 2\)"):
        symmetric_cross_entropy(torch.zeros(3, 2), torch.zeros(4, 2), scale=1)
    double = torch.zeros(3, 2, device=DEVICE).double()
    with pytest.raises(ImplUnavailable, match="it multiplies float32 and half precision, not float64"):
        symmetric_cross_entropy(double, double, scale=1, impl="triton")

"""Moving averages: the formula, revival, resumption, and agreement between ranks."""

import copy
from datetime import timedelta

import pytest
import torch
import torch.multiprocessing as mp
from einops import rearrange
from torch import distributed as dist

from codeprior import distributed
from codeprior.codebooks import MovingAverageCodebook


def batch(seed: int, *, count: int = 4) -> torch.Tensor:
    return torch.randn(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed))


def test_one_update_is_the_formula():
    codebook = MovingAverageCodebook(6, 3, decay=0.9, revive_below=0)
    latent, weight = batch(0), codebook.weight.clone()
    indices = codebook(latent).indices.flatten()
    rows = rearrange(latent, "b d h w -> (b h w) d").double()
    counts, sums = 0.9 * torch.ones(6).double(), 0.9 * weight.double()
    for row, index in zip(rows, indices, strict=True):
        counts[index] += 0.1
        sums[index] += 0.1 * row
    smoothed = (counts + 1e-5) / (counts.sum() + 6e-5) * counts.sum()
    # float32 sums of at most 64 terms
    assert torch.allclose(codebook.counts.double(), counts, rtol=1e-5)
    assert torch.allclose(codebook.weight.double(), sums / smoothed[:, None], rtol=1e-4, atol=1e-6)


def test_nothing_moves_outside_training():
    codebook = MovingAverageCodebook(6, 3).eval()
    before = copy.deepcopy(codebook.state_dict())
    codebook(batch(0))
    assert all(torch.equal(before[name], value) for name, value in codebook.state_dict().items())


def test_a_revived_code_is_a_vector_of_the_batch_and_survives_the_next_update():
    codebook = MovingAverageCodebook(6, 3, decay=0.9, revive_below=0.1)
    codebook.counts[2] = 0
    codebook.weight[2], codebook.sums[2] = 1e3, 0
    codebook(batch(0))
    revived = codebook.weight[2].clone()
    rows = rearrange(batch(0), "b d h w -> (b h w) d")
    assert (rows == revived).all(1).any()
    assert codebook.counts[2] == pytest.approx(codebook.counts.mean().item(), rel=0.2)
    # far from every vector of the next batch, it keeps its place: sum and count shrink together
    codebook(batch(1) * 1e-3 - 50 * revived[:, None, None])
    assert torch.allclose(codebook.weight[2], revived, rtol=1e-3)


def test_the_first_batch_can_give_every_code_its_own_vector():
    codebook = MovingAverageCodebook(20, 3, initialise_from_batch=True)
    codebook(batch(0))
    rows = rearrange(batch(0), "b d h w -> (b h w) d")
    places = (codebook.weight[:, None] == rows).all(-1).int().argmax(1)
    assert torch.equal(codebook.weight, rows[places])
    assert len(set(places.tolist())) == 20


def test_a_resumed_run_is_bitwise_the_same():
    whole = MovingAverageCodebook(32, 3, decay=0.5, revive_below=0.5, seed=7)
    first = copy.deepcopy(whole)
    for step in range(6):
        whole(batch(step))
        if step < 3:
            first(batch(step))
    resumed = MovingAverageCodebook(32, 3, decay=0.5, revive_below=0.5, seed=7)
    resumed.load_state_dict(first.state_dict())
    torch.rand(5)  # the global generator plays no part
    for step in range(3, 6):
        resumed(batch(step))
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in whole.state_dict().items())


def test_an_update_that_is_not_finite_changes_nothing():
    codebook = MovingAverageCodebook(6, 3)
    before = copy.deepcopy(codebook.state_dict())
    spoiled = batch(0)
    spoiled[0, 0, 0, 0] = torch.nan
    codebook(spoiled)
    assert all(torch.equal(before[name], getattr(codebook, name)) for name in ("weight", "counts", "sums"))


def test_averages_stay_float32_for_half_precision_latents():
    codebook = MovingAverageCodebook(6, 3)
    assert codebook(batch(0).bfloat16()).values.dtype == torch.bfloat16
    assert codebook.weight.dtype == codebook.sums.dtype == torch.float32


def test_wrong_arguments_say_what_was_expected():
    with pytest.raises(ValueError, match=r"expected decay in \[0, 1\), got 1"):
        MovingAverageCodebook(4, 2, decay=1)
    with pytest.raises(ValueError, match=r"expected revive_below in \[0, 1\), got 2"):
        MovingAverageCodebook(4, 2, revive_below=2)


def test_a_step_makes_one_collective(monkeypatch):
    calls = []
    monkeypatch.setattr(distributed, "sum_over_ranks", lambda value: calls.append(value.shape) or value)
    codebook = MovingAverageCodebook(6, 3, initialise_from_batch=True)
    for step in range(3):
        codebook(batch(step))
    # counts, sums and candidates together
    assert calls == [(6, 7)] * 3


def test_two_ranks_are_equal_after_ten_steps_and_equal_one_process_with_both_batches(tmp_path):
    mp.spawn(_rank, args=(str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    alone = MovingAverageCodebook(12, 3, decay=0.8, revive_below=0)
    torch.manual_seed(0)
    alone.load_state_dict(torch.load(tmp_path / "start.pt"))
    for step in range(10):
        alone(torch.cat([batch(2 * step), batch(2 * step + 1)]))
    plain = torch.load(tmp_path / "plain.pt")
    # the two ranks' sums are added in another order
    assert torch.allclose(plain["weight"], alone.weight, rtol=1e-4, atol=1e-5)


def _rank(rank: int, folder: str) -> None:
    store = dist.FileStore(f"{folder}/store", 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    torch.manual_seed(0)
    reviving = MovingAverageCodebook(40, 3, decay=0.5, revive_below=0.5)
    plain = MovingAverageCodebook(12, 3, decay=0.8, revive_below=0)
    if rank == 0:
        torch.save(plain.state_dict(), f"{folder}/start.pt")
    for step in range(10):
        # ranks may hold batches of different sizes
        reviving(batch(2 * step + rank, count=2 + rank))
        plain(batch(2 * step + rank))
    torch.save(reviving.state_dict(), f"{folder}/{rank}.pt")
    if rank == 0:
        torch.save(plain.state_dict(), f"{folder}/plain.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("reentrant", [False, True])
def test_recomputation_is_refused_in_training_and_right_in_evaluation(reentrant):
    from torch.utils.checkpoint import checkpoint

    book = MovingAverageCodebook(16, 8, initialise_from_batch=True).train()
    latent = torch.randn(2, 8, 4, 4, requires_grad=True)
    # the square needs its argument in the backward pass, so that there is something to compute again
    values = checkpoint(lambda x: book(x).values.square(), latent, use_reentrant=reentrant)
    with pytest.raises(RuntimeError, match="keep it outside of torch.utils.checkpoint, or call eval"):
        values.sum().backward()
    assert int(book.step) == 1
    # a plain update still works, and frozen codes may be looked up again
    book(latent).values.sum().backward()
    assert int(book.step) == 2
    book.eval()
    direct = torch.autograd.grad(book(latent).values.square().sum(), latent)[0]
    again = torch.autograd.grad(
        checkpoint(lambda x: book(x).values.square(), latent, use_reentrant=False).sum(), latent
    )[0]
    assert torch.equal(direct, again)

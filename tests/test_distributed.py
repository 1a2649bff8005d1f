"""The collectives of the rooms, alone and between two processes."""

import tempfile

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from codeprior import distributed


def test_alone_every_collective_is_the_identity():
    value = torch.tensor([1.0, 2.0], requires_grad=True)
    assert (distributed.rank(), distributed.world()) == (0, 1)
    for collective in (distributed.mean_over_ranks, distributed.sum_over_ranks, distributed.broadcast):
        assert collective(value) is value
    assert distributed.gather_with_gradient(value) is value


def test_two_ranks_agree_with_the_formulas():
    with tempfile.NamedTemporaryFile() as meeting, tempfile.TemporaryDirectory() as folder:
        mp.spawn(_two_ranks, args=(meeting.name, folder), nprocs=2)  # pyright: ignore[reportPrivateImportUsage]
        results = [torch.load(f"{folder}/{rank}.pt") for rank in range(2)]
    for result in results:
        assert (
            result["mean"].tolist() == [1.5] and result["sum"].tolist() == [3.0] and result["first"].tolist() == [1.0]
        )
        assert result["gathered"].tolist() == [1.0, 2.0]
    # the loss Σ c·g², whole on each of two ranks: its gradient reaches each part from both
    assert [result["gradient"].tolist() for result in results] == [[2 * 2 * 1.0 * 3], [2 * 2 * 2.0 * 5]]


def _two_ranks(rank: int, meeting: str, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    mine = torch.tensor([rank + 1.0], requires_grad=True)
    gathered = distributed.gather_with_gradient(mine)
    (torch.tensor([3.0, 5.0]) * gathered**2).sum().backward()
    result = {
        "mean": distributed.mean_over_ranks(mine.detach()),
        "sum": distributed.sum_over_ranks(mine.detach()),
        "first": distributed.broadcast(mine.detach()),
        "gathered": gathered.detach(),
        "gradient": mine.grad,
    }
    torch.save(result, f"{folder}/{rank}.pt")
    dist.destroy_process_group()

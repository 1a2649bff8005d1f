"""The collectives of the rooms, alone and between two processes."""

import torch

from codeprior import distributed
from tests.training.ranks import on_ranks


def test_alone_every_collective_is_the_identity():
    value = torch.tensor([1.0, 2.0], requires_grad=True)
    assert (distributed.rank(), distributed.world()) == (0, 1)
    for collective in (distributed.mean_over_ranks, distributed.sum_over_ranks, distributed.broadcast):
        assert collective(value) is value
    assert distributed.gather_with_gradient(value) is value
    value.grad = torch.tensor([3.0, 4.0])
    distributed.average_gradients([value])
    assert value.grad.tolist() == [3.0, 4.0]


def test_two_ranks_agree_with_the_formulas():
    results = on_ranks(2, _two_ranks)
    for result in results:
        assert (result["mean"], result["sum"], result["first"], result["gathered"]) == ([1.5], [3.0], [1.0], [1.0, 2.0])
        assert result["any"] and not result["none"]
        # 1 and 2, 10 and 20; what has no gradient anywhere still has none
        assert result["averaged"] == [[[1.5, 15.0]], None, [30.0]]
    # the loss Σ c·g², whole on each of two ranks: its gradient reaches each part from both
    assert [result["gradient"] for result in results] == [[2 * 2 * 1.0 * 3], [2 * 2 * 2.0 * 5]]


def _two_ranks():
    rank = distributed.rank()
    mine = torch.tensor([rank + 1.0], requires_grad=True)
    gathered = distributed.gather_with_gradient(mine)
    (torch.tensor([3.0, 5.0]) * gathered**2).sum().backward()
    assert mine.grad is not None
    parameters = [torch.zeros(1, 2), torch.zeros(3), torch.zeros(1)]
    parameters[0].grad = (rank + 1.0) * torch.tensor([[1.0, 10.0]])
    parameters[2].grad = torch.tensor([20.0 * (rank + 1)])
    distributed.average_gradients(parameters)
    return {
        "mean": distributed.mean_over_ranks(mine.detach()).tolist(),
        "sum": distributed.sum_over_ranks(mine.detach()).tolist(),
        "first": distributed.broadcast(mine.detach()).tolist(),
        "gathered": gathered.tolist(),
        "gradient": mine.grad.tolist(),
        "averaged": [None if one.grad is None else one.grad.tolist() for one in parameters],
        "any": distributed.any_rank(rank == 1),
        "none": distributed.any_rank(False),
    }

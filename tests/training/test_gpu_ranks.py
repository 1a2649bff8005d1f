"""Ranks with a GPU each: their process group serves tensors of the CPU too.

Here are no GPUs. gloo stands in for NCCL, in a group that serves CUDA alone and refuses the CPU, as NCCL's does.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from codeprior import distributed
from codeprior.training import Checkpoints, Saving, TorchEngine, started, train
from codeprior.training.state import random_state
from tests.torture import stages
from tests.training.ranks import on_ranks
from tests.training.toy import Toy, digest, stream, write_faces


@contextmanager
def _pretended_gpus(folder: Path) -> Iterator[None]:
    """Lets `started` begin the ranks' group as it does where each has a GPU."""
    rank, world = dist.get_rank(), dist.get_world_size()
    dist.destroy_process_group()
    begin, available, chosen = dist.init_process_group, torch.cuda.is_available, torch.cuda.set_device

    def instead(backend, *, timeout):
        words = "cuda:gloo" if backend == "nccl" else backend.replace("nccl", "gloo")
        begin(words, init_method=f"file://{folder}/again", rank=rank, world_size=world, timeout=timeout)

    os.environ.update({"WORLD_SIZE": str(world), "RANK": str(rank), "LOCAL_RANK": str(rank)})
    dist.init_process_group, torch.cuda.is_available, torch.cuda.set_device = instead, lambda: True, lambda _: None
    try:
        with started() as device:
            assert device.type == "cuda"
            torch.cuda.is_available = available
            yield
    finally:
        dist.init_process_group, torch.cuda.is_available, torch.cuda.set_device = begin, available, chosen


def _collectives(folder):
    with _pretended_gpus(folder):
        rank = distributed.rank()
        assert distributed.any_rank(rank == 1)
        assert len(random_state()) == 2
        assert distributed.sum_over_ranks(torch.tensor([rank, 1])).tolist() == [1, 2]
        assert distributed.broadcast(torch.tensor(rank)).item() == 0
    return True


def test_ranks_with_gpus_also_talk_about_tensors_of_the_cpu(tmp_path):
    assert on_ranks(2, _collectives, tmp_path) == [True, True]


def _trained(folder, faces):
    with _pretended_gpus(folder):
        made = Toy(seed=distributed.rank())
        made.net = TorchEngine().wrap(made.net)
        made.optimizer = torch.optim.Adam(made.net.parameters(), lr=1e-2)
        options = {"log_every": 1, "saving": Saving(every=2), "preview_every": 0, "progress": False}
        train(made, stream(faces), folder=folder / "run", steps=2, **options)
        # the counts of codes go over all ranks too
        daefr = stages.stage("hq", engine=TorchEngine())
        daefr.update(stages.stream(folder / "faces").at(0), 20)
        return digest(getattr(made.net, "module", made.net)[0]), daefr.objective.use.counts.sum().item()


def test_ranks_with_gpus_train_and_save(tmp_path):
    faces = write_faces(tmp_path / "toys")
    stages.stream(tmp_path / "faces")
    one, other = on_ranks(2, _trained, tmp_path, faces)
    assert one == other
    assert Checkpoints(tmp_path / "run" / "checkpoints").steps() == [0, 2]


def _begun_by_others(folder):
    rank, world = dist.get_rank(), dist.get_world_size()
    dist.destroy_process_group()
    dist.init_process_group("cuda:gloo", init_method=f"file://{folder}/other", rank=rank, world_size=world)
    expected = "serves tensors of the CPU too, got 'cuda:gloo'; begin it with 'cpu:gloo,cuda:nccl'"
    with pytest.raises(ValueError, match=expected), started():
        pass
    return True


def test_a_group_that_others_began_for_gpus_alone_is_refused(tmp_path):
    assert on_ranks(2, _begun_by_others, tmp_path) == [True, True]

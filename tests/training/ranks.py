"""Several ranks on this machine, as forked processes joined by gloo; for tests that need more than one."""

import os
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing import get_context
from typing import Any

import torch
import torch.distributed as dist


def on_ranks(world: int, function: Callable[..., Any], *args: Any, timeout: float = 60.0) -> list[Any]:
    """Gives what a function gives on each rank; an error on any of them is an error here."""
    context = get_context("fork")
    with tempfile.TemporaryDirectory() as folder:
        pipes = [context.Pipe(duplex=False) for _ in range(world)]
        children = [
            context.Process(target=_rank, args=(rank, world, folder, timeout, pipes[rank][1], function, args))
            for rank in range(world)
        ]
        for child in children:
            child.start()
        for _, ours in pipes:
            ours.close()
        results = []
        for receiver, _ in pipes:
            try:
                results.append(receiver.recv())
            except EOFError:
                results.append("the rank died")
        for child in children:
            child.join(timeout)
    errors = [result for result in results if isinstance(result, str)]
    if errors:
        raise AssertionError("\n".join(errors))
    return [result[0] for result in results]


def join(rank: int, world: int, folder: str, timeout: float) -> None:
    """Joins the process group."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world, timeout=timedelta(seconds=timeout)
    )


def _rank(rank: int, world: int, folder: str, timeout: float, sender: Any, function: Any, args: Any) -> None:
    try:
        join(rank, world, folder, timeout)
        sender.send((function(*args),))
        dist.barrier()
    except BaseException:
        sender.send(traceback.format_exc())
    finally:
        sender.close()
        os._exit(0)

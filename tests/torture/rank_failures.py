"""Two ranks, one of which fails: killed, hung, by an exception, by its loader's death, or asked to stop.

What `torchrun` does is done here by hand, so that it costs no start-up: when a rank ends, the other finds its
connection closed or waits out its time; what has not ended shortly after a failure is killed; then both begin again
from the newest checkpoint.
"""

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path
from typing import NamedTuple

import torch.distributed as dist

from codeprior.training import TorchEngine, train
from tests.torture import stages
from tests.torture.kills import RUN, forked
from tests.training.ranks import join

KINDS = ("kill rank 0", "kill rank 1", "hang", "exception", "loader worker", "SIGTERM")
STEPS = 14
GRACE = 2.0
"""Seconds that the other rank is given to notice a failure before it is killed; only a hung one needs that."""


class Recovery(NamedTuple):
    """A run in which a rank failed once."""

    stage: str
    kind: str
    failed: bool
    """Whether the failure really happened."""
    equal: bool
    """Whether both ranks ended with the bits of a run without it."""


def recover(folder: Path, name: str, kind: str, *, timeout: float = 15.0) -> Recovery:
    """Runs a stage on two ranks without and with a failure, and compares the ends.

    Args:
        folder: Scratch space; the end of the run without a failure stays in it for the next call.
        name: The stage.
        kind: One of `KINDS`.
        timeout: Seconds that a collective waits for a rank; a third of it where one hangs.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stages.stream(folder / "faces")
    truth = folder / f"truth-{name}"
    if not truth.exists():
        ends, _ = _both(folder, name, folder / "whole", "none", timeout)
        shutil.rmtree(folder / "whole")
        assert ends[0].startswith(ends[1]), ends
        truth.write_text("\n".join(ends))
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    first, statuses = _both(folder, name, run, kind, timeout / 3 if kind == "hang" else timeout)
    failed = "\n".join(first) != truth.read_text()
    if kind == "SIGTERM":
        failed = failed and statuses == [75, 75]
    ends, _ = _both(folder, name, run, "none", timeout)
    return Recovery(name, kind, failed, "\n".join(ends) == truth.read_text())


def _both(folder: Path, name: str, run: Path, kind: str, timeout: float) -> tuple[list[str], list[int]]:
    meet = folder / f"meet-{time.monotonic_ns()}"
    meet.mkdir()
    results = [folder / f"end-{rank}" for rank in range(2)]
    for path in results:
        path.unlink(missing_ok=True)
    children = [
        forked(lambda rank=rank: _rank(rank, str(meet), folder / "faces", name, run, kind, timeout), results[rank])
        for rank in range(2)
    ]
    statuses = _wait_for(children, timeout)
    shutil.rmtree(meet)
    return [path.read_text() if path.exists() else "" for path in results], statuses


def _wait_for(children: list[int], timeout: float) -> list[int]:
    """Waits for both; once one has failed, the other gets a moment to notice, and then a kill."""
    ended: dict[int, int] = {}
    deadline = time.monotonic() + 20 * timeout
    while len(ended) < len(children):
        for child in children:
            if child not in ended:
                found, status = os.waitpid(child, os.WNOHANG)
                if found:
                    ended[child] = os.waitstatus_to_exitcode(status)
                    clean = ended[child] in (0, 75)
                    deadline = min(deadline, time.monotonic() + (2 * timeout if clean else GRACE))
        if time.monotonic() > deadline:
            for child in children:
                if child not in ended:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(child, signal.SIGKILL)
        time.sleep(0.01)
    return [ended[child] for child in children]


def _rank(rank: int, meet: str, faces: Path, name: str, run: Path, kind: str, timeout: float) -> str:
    join(rank, 2, meet, timeout)
    made = stages.stage(name, engine=TorchEngine())
    data = stages.stream(faces, workers=1 if kind == "loader worker" else 0)
    if rank == (0 if kind == "kill rank 0" else 1):
        # ranks ask one another every ten steps, so a wish to stop must come before the last time
        _fail_at(made, kind, step=3 if kind == "SIGTERM" else 11)
    train(made, data, folder=run, **RUN | {"steps": STEPS}, engine=TorchEngine())
    dist.barrier()
    # the running statistics that a checkpoint holds are those of rank 0
    return stages.digest(made, local=False) + (stages.digest(made) if rank == 0 else "")


def _fail_at(made, kind: str, *, step: int) -> None:
    update = made.update

    def failing(batch, number):
        if number == step:
            if kind.startswith("kill"):
                os.kill(os.getpid(), signal.SIGKILL)
            elif kind == "hang":
                os.kill(os.getpid(), signal.SIGSTOP)
            elif kind == "exception":
                raise RuntimeError("a failure on purpose")
            elif kind == "SIGTERM":
                os.kill(os.getpid(), signal.SIGTERM)
            elif kind == "loader worker":
                for child in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split():
                    os.kill(int(child), signal.SIGKILL)
        return update(batch, number)

    made.update = failing

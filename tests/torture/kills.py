"""SIGKILL at random moments: however often a run is killed, it ends with the bits of one that never was.

Children are forked from a process that has imported everything, so that a life costs its steps and little else. Each is
killed when a random time has passed since its first step of that life, which falls anywhere: in a step, in the reading
of a checkpoint, between the operations of a save, in the removal of an old one.
"""

import contextlib
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from codeprior.training import Checkpoints, Saving, train
from tests.torture import stages

RUN = {"steps": 40, "saving": Saving(every=4), "log_every": 10, "preview_every": 0, "progress": False}


class Survival(NamedTuple):
    """One run that was killed several times."""

    stage: str
    kills: int
    """How many times it was really killed."""
    during_save: int
    """How many of the kills left an unfinished checkpoint or half a removed one behind."""
    equal: bool
    """Whether the end was that of an uninterrupted run."""
    litter: list[str]
    """What lay beside the checkpoints at the end."""


def life(name: str, folder: Path, **options) -> str:
    """Trains a stage in a folder, from wherever it is, to the end; gives the hash of all it saves."""
    torch.set_num_threads(1)
    made = stages.stage(name, seed=options.pop("seed", 0))
    train(
        made, stages.stream(folder.parent / "faces", workers=options.pop("workers", 0)), folder=folder, **RUN | options
    )
    return stages.digest(made)


def forked(function: Callable[[], str], result: Path) -> int:
    """Runs a function in a child process that writes what it gives; returns the child's process id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        result.write_text(function())
        status = 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    finally:
        os._exit(status)


def survive(folder: Path, *, kills: int, seed: int, names: tuple[str, ...] = stages.NAMES) -> Iterator[Survival]:
    """Kills runs until so many kills have happened, a stage after the other; gives each run as it ends.

    Args:
        folder: Scratch space.
        kills: How many in all.
        seed: Of the moments.
        names: The stages, taken in turn.
    """
    moments, done, turn = random.Random(seed), 0, 0
    folder.mkdir(parents=True, exist_ok=True)
    stages.stream(folder / "faces")
    truths: dict[str, tuple[str, float]] = {}
    while done < kills:
        name = names[turn % len(names)]
        if name not in truths:
            began = time.monotonic()
            whole = folder / f"whole-{name}"
            _wait(forked(lambda name=name, whole=whole: life(name, whole), folder / "truth"))
            truths[name] = (folder / "truth").read_text(), time.monotonic() - began
            shutil.rmtree(whole)
        truth, duration = truths[name]
        run = folder / f"run-{turn}"
        wanted = min(kills - done, moments.randint(2, 8))
        yield _one(name, run, truth, duration, wanted, moments)
        done += wanted
        turn += 1
        shutil.rmtree(run)


def _one(name: str, run: Path, truth: str, duration: float, wanted: int, moments: random.Random) -> Survival:
    killed, during, lives, result = 0, 0, 0, run.parent / "result"
    while True:
        lives += 1
        result.unlink(missing_ok=True)
        # once there is a checkpoint, the first weights of a new life must not matter
        seed = lives if Checkpoints(run / "checkpoints").steps() else 0
        child = forked(lambda seed=seed: life(name, run, seed=seed), result)
        if killed < wanted:
            time.sleep(moments.uniform(0, duration / (1 + wanted / 3)))
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        status = _wait(child)
        if status == -signal.SIGKILL:
            killed += 1
            during += bool(_litter(run))
        elif killed < wanted and status == 0:
            # it was done before its time: begin again, the kills so far count
            if result.read_text() != truth:
                return Survival(name, killed, during, False, _litter(run))
            shutil.rmtree(run)
        else:
            break
    equal = status == 0 and result.read_text() == truth
    return Survival(name, killed, during, equal, _litter(run))


def _litter(run: Path) -> list[str]:
    return sorted(path.name for path in run.glob("checkpoints/.*"))


def _wait(child: int) -> int:
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)

"""The loop that all stages share: a step, and what happens between steps.

A run is a folder: `checkpoints/`, `log.jsonl`, `previews/`. Started again on the same folder it goes on where the
newest sound checkpoint was written, and ends with the same bits as if it had never stopped.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch

from codeprior import distributed
from codeprior.training.checkpoint import Checkpoints
from codeprior.training.data import Batch, Stream
from codeprior.training.stage import Stage
from codeprior.training.watch import Log, Means, Progress, save_grid

REQUEUE = 75
"""Exit status of a run that was asked to stop, stopped cleanly, and wants to be started again (BSD's `EX_TEMPFAIL`)."""


class Stopped(SystemExit):
    """A signal asked the run to stop; its state is saved, and the exit status is 75."""


class Finished(NamedTuple):
    """How a run ended."""

    step: int
    """How many steps have been made in all."""
    complete: bool
    """Whether that is all of them; False where the time was up."""


def train(
    stage: Stage,
    data: Stream,
    *,
    folder: str | Path,
    steps: int,
    save_every: int = 1000,
    log_every: int = 50,
    preview_every: int = 500,
    preview: Batch | None = None,
    keep: int = 3,
    resume: bool = True,
    minutes: float | None = None,
    device: torch.device | str = "cpu",
    name: str | None = None,
    progress: bool = True,
) -> Finished:
    """Trains a stage to a number of steps, or goes on with it, in a folder that holds the whole run.

    Args:
        stage: What is trained.
        data: The batches, by step.
        folder: Where `checkpoints/`, `log.jsonl` and `previews/` go.
        steps: Number of updates in all, earlier runs in the same folder counted in.
        save_every: Steps between checkpoints; one more is written at either end.
        log_every: Steps between lines of the log; each holds the means since the line before.
        preview_every: Steps between pictures; 0 for none.
        preview: What the pictures are made of; without it, the first four samples of the stream.
        keep: How many checkpoints stay.
        resume: Go on from the newest sound checkpoint in the folder.
        minutes: Stop cleanly, with a checkpoint, when this call has taken so long.
        device: Where batches are sent; the stage's modules are there already.
        name: What the progress line calls the run; without it, the name of the folder.
        progress: Whether there is a progress line.

    Returns:
        How it ended: complete, or out of time.

    Raises:
        ValueError: The folder holds a run over other data, or holds one and `resume` is off.
        Stopped: SIGTERM or SIGUSR1 came; the state was saved first.
        OSError: A checkpoint could not be written; those before it are untouched.
    """
    folder = Path(folder)
    first = distributed.rank() == 0
    log, checkpoints = Log(folder / "log.jsonl"), Checkpoints(folder / "checkpoints", keep=keep)
    step, means = _resume(stage, data, checkpoints, log, resume)
    line = Progress(steps, start=step, shown=progress and first)
    name = name or folder.name
    saved = step if step else -1

    def save() -> None:
        nonlocal saved
        checkpoints.save(step, stage.saved, notes={"data": data.fingerprint, "means": means.state()})
        saved = step

    with _requests() as asked:
        if saved < 0:
            save()  # the beginning too, so that whatever drew the first weights need not draw the same again
        for batch in data.between(step, steps):
            means.add(stage.update(batch.to(device), step))
            step += 1
            if step % log_every == 0 or step == steps:
                values = _over_ranks(means.values(), device)
                means.reset()
                if first:
                    rates = {"steps_per_second": line.rate(step), "elapsed": line.elapsed}
                    log.write(step, **values, **{key: round(value, 3) for key, value in rates.items()})
                line.show(step, name=name, values=values, force=step == steps)
            if preview_every and (step % preview_every == 0 or step == steps):
                _preview(
                    stage, (preview or data.at(0).first(4)).to(device), folder / "previews" / f"step-{step:08d}.png"
                )
            stop, late = bool(asked), minutes is not None and line.elapsed > minutes * 60
            if distributed.world() > 1:
                stop, late = (distributed.any_rank(flag, device=device) for flag in (stop, late))
            if step % save_every == 0 or stop or late or step == steps:
                save()
            if stop:
                raise Stopped(REQUEUE)
            if late:
                break
    if saved != step:
        save()
    return Finished(step, step >= steps)


def _resume(stage: Stage, data: Stream, checkpoints: Checkpoints, log: Log, resume: bool) -> tuple[int, Means]:
    if not resume and checkpoints.steps():
        raise ValueError(
            f"train: {checkpoints.folder} holds a run already; give another folder, remove it, or set resume=True."
        )
    found = checkpoints.resume(stage.saved)
    if found is None:
        if distributed.rank() == 0:
            log.cut(-1)
        return 0, Means()
    if found.notes["data"] != data.fingerprint:
        changed = [key for key, value in data.fingerprint.items() if found.notes["data"].get(key) != value]
        raise ValueError(
            f"train: {checkpoints.folder} holds a run over other data ({', '.join(changed)} changed); "
            "give another folder, or the data it was begun with."
        )
    if distributed.rank() == 0:
        log.cut(found.step)
        log.write(found.step, event="resumed", bitwise=found.bitwise, damaged=found.passed)
    if not found.bitwise:
        torch.manual_seed(found.step * distributed.world() + distributed.rank())
    return found.step, Means(**found.notes["means"])


def _over_ranks(values: dict[str, float], device: torch.device | str) -> dict[str, float]:
    if distributed.world() == 1 or not values:
        return values
    together = torch.tensor(list(values.values()), dtype=torch.float64, device=device)
    return dict(zip(values, distributed.mean_over_ranks(together).tolist(), strict=True))


def _preview(stage: Stage, batch: Batch, path: Path) -> None:
    if distributed.rank() != 0:
        return
    devices = [batch.clean.device] if batch.clean.is_cuda else []
    with torch.random.fork_rng(devices), torch.no_grad():
        pictures = stage.preview(batch)
    if pictures:
        save_grid(path, pictures)


@contextmanager
def _requests() -> Iterator[list[int]]:
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    # the handler only remembers; the loop stops between two steps, on all ranks at the same one
    before = {
        number: signal.signal(number, lambda got, _: asked.append(got)) for number in (signal.SIGTERM, signal.SIGUSR1)
    }
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

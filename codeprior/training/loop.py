"""The loop that all stages share: a step, and what happens between steps.

A run is a folder: `checkpoints/`, `log.jsonl`, `previews/`, and at the end `report.html`. Started again on the same
folder it goes on where the newest sound checkpoint was written, and ends with the bits of a run that never stopped.
"""

import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, Unpack

import torch
from torch import nn

from codeprior import distributed
from codeprior.training.checkpoint import Checkpoints, Saving
from codeprior.training.data import Batch, Stream
from codeprior.training.engine import Engine, TorchEngine
from codeprior.training.loggers import Logger
from codeprior.training.report import write_report
from codeprior.training.runs import FolderInUse, Settings, claimed, differences, made
from codeprior.training.stage import Stage
from codeprior.training.state import parts_of
from codeprior.training.steps import Guard
from codeprior.training.watch import Log, Means, Progress, save_grid

REQUEUE = 75
"""Exit status of a run that was asked to stop, stopped cleanly, and should be started again (BSD's `EX_TEMPFAIL`)."""


_ASKED_EVERY = 10


class Stopped(SystemExit):
    """A signal asked the run to stop; its state is saved, and the exit status is 75."""


class Finished(NamedTuple):
    """How a run ended."""

    step: int
    """How many steps have been made in all."""
    complete: bool
    """Whether that is all of them; False where the time was up."""


class FormerSaving(TypedDict, total=False):
    """Former names of what `Saving` holds."""

    save_every: int
    save_minutes: float | None
    keep: int
    keep_every: int
    best: int
    best_by: str | None
    background: bool


_FORMER = {name: name.removeprefix("save_") for name in FormerSaving.__annotations__}


def train(
    stage: Stage,
    data: Stream,
    *,
    folder: str | Path,
    steps: int,
    saving: Saving | None = None,
    log_every: int = 50,
    preview_every: int = 500,
    preview: Batch | None = None,
    validate: Callable[[], Mapping[str, float]] | None = None,
    validate_every: int = 0,
    settings: Mapping[str, Any] | Settings | None = None,
    resume: bool = True,
    minutes: float | None = None,
    device: torch.device | str = "cpu",
    engine: Engine | None = None,
    loggers: Sequence[Logger] = (),
    name: str | None = None,
    progress: bool = True,
    facts: Mapping[str, Any] | None = None,
    **former: Unpack[FormerSaving],
) -> Finished:
    """Trains a stage to a number of steps, or goes on with it, in a folder that holds the whole run.

    Args:
        stage: What is trained.
        data: The batches, by step.
        folder: Where `checkpoints/`, `log.jsonl`, `previews/` and, at the end, `report.html` go.
        steps: Number of updates in all, including those of earlier runs in the same folder.
        saving: When checkpoints are written, and which stay; `Saving()` without it.
        log_every: Steps between lines of the log; each holds the means since the line before.
        preview_every: Steps between pictures; 0 for none.
        preview: What the pictures are made of; without it, the first four samples of the stream.
        validate: Gives figures of held-out images; every rank calls it, and it must change nothing that training uses.
            They are logged as `validation_` and their names.
        validate_every: Steps between its calls, and one at the end; 0 for none.
        settings: What must be the same when the run is resumed: JSON values, or the fields of a stage's settings as
            `Settings`; a field that was added since counts as its default. The stage's class, its optimisers and the
            data are compared in any case.
        resume: Go on from the newest sound checkpoint in the folder.
        minutes: Stop cleanly, with a checkpoint, when this call has taken so long.
        device: Where batches are sent; the stage's modules are there already. An engine's own device goes before it.
        engine: The one that the stage was built with, where there is one.
        loggers: Further places where figures and pictures go; only rank 0 writes.
        name: What the progress line calls the run; without it, the name of the folder.
        progress: Whether there is a progress line.
        facts: JSON values to say in the log when the run starts or goes on, and in the report.
        **former: Fields of `saving` under their former names; they work for one release.

    Returns:
        How it ended: complete, or out of time.

    Raises:
        ValueError: The folder holds a run over other data or with other settings, or holds one and `resume` is off.
        FolderInUse: Another process trains in the folder.
        NotFinite: Too many updates had gradients that are not finite; the text has their samples' keys.
        Stopped: SIGTERM or SIGUSR1 came; the state was saved first.
        OSError: A checkpoint could not be written; those before it are untouched.
    """
    saving = _saving(saving, former)
    engine, folder = engine or TorchEngine(device), Path(folder)
    first = engine.rank == 0
    recipe = made(stage, settings)
    options = {"steps": steps, "save_every": saving.every, "log_every": log_every, "preview_every": preview_every}
    log = Log(folder / "log.jsonl")
    checkpoints = saving.checkpoints(folder / "checkpoints")
    stack = ExitStack()
    _claim(folder, engine, stack)
    try:
        step, notes = _resume(stage, data, checkpoints, log, resume, settings=settings, recipe=recipe, options=options)
    except BaseException:
        stack.close()
        raise
    means = Means.of(notes.get("means", {}))
    guard = Guard([p for p in parts_of(stage.saved).values() if isinstance(p, nn.Module)], **notes.get("guard", {}))
    score: float | None = notes.get("score")
    line = Progress(steps, start=step, shown=progress and first)
    name = name or folder.name
    saved, saved_at = step if step else -1, 0.0
    stop = False
    if first and isinstance(settings, Settings):
        settings.write(folder)
    if first and facts:
        log.write(step, event="started", **facts)

    def save() -> None:
        nonlocal saved, saved_at
        state = {"data": data.fingerprint, "means": means.state(), "guard": guard.state(), "score": score}
        state |= {"made": recipe, "options": options}
        checkpoints.save(step, stage.saved, notes=state, score=score)
        saved, saved_at = step, line.elapsed

    with stack, _requests() as asked:
        if saved < 0:
            save()  # the beginning too, so that a resumed run does not depend on how the first weights were drawn
        for batch in data.between(step, steps):
            guard.before()
            metrics = stage.update(batch.to(engine.device), step)
            guard.after(step, batch.keys, metrics.get("skipped"))
            means.add(metrics)
            step += 1
            if step % log_every == 0 or step == steps:
                values = _over_ranks(means.values(), engine)
                means.reset()
                score = _score(saving, values) if validate is None else score
                if first:
                    rates = {"steps_per_second": line.rate(step), "elapsed": line.elapsed}
                    log.write(step, **values, **{key: round(value, 3) for key, value in rates.items()})
                    for logger in loggers:
                        logger.write(step, values | rates)
                line.show(step, name=name, values=values, force=step == steps)
            if validate is not None and validate_every and (step % validate_every == 0 or step == steps):
                figures = _validation(validate)
                score = _score(saving, figures)
                if first:
                    named = {f"validation_{figure}": value for figure, value in figures.items()}
                    log.write(step, event="validation", **named)
                    for logger in loggers:
                        logger.write(step, named)
            elif validate is not None:
                score = None
            if first and preview_every and (step % preview_every == 0 or step == steps):
                looked_at = preview or data.share(0, rank=0, world=engine.world).first(4)
                path = _preview(stage, looked_at.to(engine.device), folder / "previews" / f"step-{step:08d}.png")
                for logger in loggers:
                    logger.picture(step, path)
            stop, late = bool(asked), minutes is not None and line.elapsed > minutes * 60
            due = saving.overdue(line.elapsed - saved_at)
            if engine.world > 1:
                # each rank has its own clock and signals; asking all ranks waits for the device, so it is done rarely
                early = step % _ASKED_EVERY == 0 and engine.any(stop or late)
                stop, late = early and engine.any(stop), early
                due = saving.minutes is not None and step % _ASKED_EVERY == 0 and engine.any(due)
            if saving.due(step) or due or stop or late or step == steps:
                save()
            if stop or late:
                break
        if saved != step:
            save()
        checkpoints.wait()
        for logger in loggers:
            logger.close()
    if first and step >= steps:
        write_report(folder, facts=_facts_of(data, engine, guard) | dict(facts or {}))
    if stop and step < steps:
        raise Stopped(REQUEUE)
    return Finished(step, step >= steps)


def _saving(saving: Saving | None, former: FormerSaving) -> Saving:
    if unknown := [name for name in former if name not in _FORMER]:
        raise TypeError(f"train() got an unexpected keyword argument {unknown[0]!r}")
    given: dict[str, Any] = {_FORMER[name]: value for name, value in former.items()}
    if not given:
        return saving or Saving()
    if saving is not None:
        raise TypeError(f"train: expected saving=, or its former names {', '.join(former)}; got both.")
    words = ", ".join(f"{name}={value!r}" for name, value in given.items())
    warnings.warn(f"train: {', '.join(former)} is now saving=Saving({words})", DeprecationWarning, stacklevel=3)
    return Saving(**given)


def _score(saving: Saving, figures: Mapping[str, float]) -> float | None:
    """Gives the figure by which checkpoints are best, and warns where it is not among those that there are."""
    if saving.best_by is not None and saving.best_by not in figures:
        there = ", ".join(sorted(figures)) or "none"
        warnings.warn(
            f"train: best_by is {saving.best_by!r}, and the figures are {there}; without it no checkpoint is best",
            stacklevel=3,
        )
    return None if saving.best_by is None else figures.get(saving.best_by)


def _claim(folder: Path, engine: Engine, stack: ExitStack) -> None:
    """Locks the folder for this run; where another run has it, every rank stops."""
    refusal: FolderInUse | None = None
    if engine.rank == 0:
        try:
            stack.enter_context(claimed(folder))
        except FolderInUse as error:
            refusal = error
    if engine.any(refusal is not None) if engine.world > 1 else refusal is not None:
        raise refusal or FolderInUse(f"train: another run is using {folder}.")


def _resume(
    stage: Stage,
    data: Stream,
    checkpoints: Checkpoints,
    log: Log,
    resume: bool,
    *,
    settings: Mapping[str, Any] | Settings | None,
    recipe: Mapping[str, Any],
    options: Mapping[str, Any],
) -> tuple[int, dict[str, Any]]:
    if not resume and checkpoints.steps():
        raise ValueError(
            f"train: {checkpoints.folder} holds a run already; give another folder, remove it, or set resume=True."
        )
    found = checkpoints.resume(stage.saved)
    if found is None:
        if distributed.rank() == 0:
            log.cut(-1)
        return 0, {}
    # what earlier versions did not note is not compared
    changed = [key for key, value in data.fingerprint.items() if found.notes["data"].get(key, value) != value]
    if changed:
        raise ValueError(
            f"train: {checkpoints.folder} holds a run over other data ({', '.join(changed)} changed); "
            "give another folder, or the data it was begun with."
        )
    if other := differences(found.notes["made"], recipe, settings) if "made" in found.notes else []:
        raise ValueError(
            f"train: {checkpoints.folder} holds a run with other settings: {'; '.join(other)}. "
            "Give another folder, or the settings that it was begun with."
        )
    if distributed.rank() == 0:
        before = found.notes.get("options", options)
        moved = {key: [before.get(key), value] for key, value in options.items() if before.get(key) != value}
        log.cut(found.step)
        log.write(found.step, event="resumed", bitwise=found.bitwise, damaged=found.passed, changed=moved)
    if not found.bitwise:
        torch.manual_seed(found.step * distributed.world() + distributed.rank())
    return found.step, found.notes


def _facts_of(data: Stream, engine: Engine, guard: Guard) -> dict[str, Any]:
    return {
        "images": len(data.source),
        "images a step": data.batch,
        "seed of the data": data.seed,
        "ranks": engine.world,
        "device": str(engine.device),
        "torch": torch.__version__,
        "steps left out": guard.skipped,
    }


def _over_ranks(values: dict[str, float], engine: Engine) -> dict[str, float]:
    if engine.world == 1 or not values:
        return values
    together = torch.tensor(list(values.values()), dtype=torch.float64, device=engine.device)
    return dict(zip(values, engine.mean(together).tolist(), strict=True))


def _validation(validate: Callable[[], Mapping[str, float]]) -> dict[str, float]:
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices), torch.no_grad():
        return {name: float(value) for name, value in validate().items()}


def _preview(stage: Stage, batch: Batch, path: Path) -> Path:
    devices = [batch.clean.device] if batch.clean.is_cuda else []
    with torch.random.fork_rng(devices), torch.no_grad():
        pictures = stage.preview(batch)
    save_grid(path, pictures)
    return path


@contextmanager
def _requests() -> Iterator[list[int]]:
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    # the handler only sets a flag; the loop stops between two steps, on all ranks at the same one
    before = {
        number: signal.signal(number, lambda got, _: asked.append(got))
        for number in (signal.SIGTERM, getattr(signal, "SIGUSR1", signal.SIGTERM))  # Windows has the first alone
    }
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

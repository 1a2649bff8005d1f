"""What `codeprior restore --task` does: a family's other tasks, on aligned faces, one file after the other."""

import argparse
import pkgutil
from pathlib import Path
from typing import Any

from codeprior.commands._jobs import Job, jobs, with_folders
from codeprior.commands._outputs import UsageError
from codeprior.commands._printing import say

_FAILED = 3
_MARKED = 128  # level from which a pixel of a mask counts


def run_task(arguments: argparse.Namespace) -> int:
    """Does a task with every input.

    Args:
        arguments: Of `codeprior restore`, with `task`.

    Returns:
        0 all done, 3 some failed.

    Raises:
        UsageError: The call makes no sense: inputs, weights or the model's family do not serve the task.
    """
    if len(arguments.paths) < 2:
        raise UsageError("give at least one input and then the output.")
    if not arguments.aligned:
        raise UsageError("--task works on faces that are aligned already; say so with --aligned.")
    *inputs, out = arguments.paths
    # what is not drawn anew stays as it is to the bit, so results are written without loss unless asked otherwise
    work, _ = jobs(inputs, Path(out), suffix=f".{arguments.format or 'png'}")
    function, model = _task(arguments)
    failed = 0
    for job in with_folders(work):
        reason = job.refusal
        if reason is None:
            try:
                _do(function, model, job, arguments)
            except (OSError, ValueError) as error:
                reason = str(error)
        if reason is None:
            say(f"{job.source}: {arguments.task}, {job.target}")
        else:
            failed += 1
            say(f"error: {job.source}: {reason}", error=True)
    return _FAILED if failed else 0


def _task(arguments: argparse.Namespace) -> tuple[Any, Any]:
    """Gives the family's function of the task, and the model that it is done with."""
    from codeprior.families import family_of, find_family
    from codeprior.restorers import load_restorer

    try:
        model = load_restorer(arguments.weights, family=arguments.recipe, device=arguments.device).model
    except FileNotFoundError as error:
        raise UsageError(str(error)) from None
    name = family_of(model)
    tasks = find_family(name).tasks if name else {}
    if arguments.task not in tasks:
        raise UsageError(f"{name or type(model).__name__} has no task {arguments.task!r}; it has {_listed(tasks)}.")
    return pkgutil.resolve_name(tasks[arguments.task]), model


def _do(function: Any, model: Any, job: Job, arguments: argparse.Namespace) -> None:
    from codeprior.photos.files import read, write

    photo = read(job.source)
    mask = None
    if arguments.mask is not None:
        place = arguments.mask / f"{job.source.stem}.png" if arguments.mask.is_dir() else arguments.mask
        mask = (read(place).pixels >= _MARKED).any(-1)
    answer = function(model, photo.pixels, mask)
    write(job.target, answer, profile=photo.profile, metadata=photo.metadata, overwrite=arguments.overwrite)


def _listed(tasks: Any) -> str:
    return ", ".join(tasks) or "none"

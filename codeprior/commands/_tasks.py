"""What `codeprior restore --task` does: a family's other tasks, one file after the other.

All work on aligned faces; areas are also filled in the faces of whole photographs.
"""

import argparse
import pkgutil
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

from codeprior.commands._jobs import Job, jobs, with_folders
from codeprior.commands._outputs import UsageError, named_options
from codeprior.commands._printing import say

_FAILED = 3
_MARKED = 128  # level from which a pixel of a mask counts
_OF_RESTORING = (
    "strength", "fidelity", "always", "match_colour", "upscale", "background", "parser", "landmarks", "keep_alpha",
    "resume", "report", "compare", "uncertainty", "ray",
)  # fmt: skip


def run_task(arguments: argparse.Namespace, given: Collection[str]) -> int:
    """Does a task with every input.

    Args:
        arguments: Of `codeprior restore`, with `task`.
        given: Names of those that are not as usual.

    Returns:
        0 all done, 3 some failed.

    Raises:
        UsageError: The call makes no sense: inputs, weights or the model's family do not serve the task.
    """
    if len(arguments.paths) < 2:
        raise UsageError("give at least one input and then the output.")
    if not arguments.aligned and arguments.task != "inpaint":
        raise UsageError(
            f"--task {arguments.task} works on faces that are aligned already, because what lies around a face would "
            "stay as it is; say so with --aligned."
        )
    if asked := [name for name in _OF_RESTORING if name in given]:
        words = ", ".join(f"--{name.replace('_', '-')}" for name in asked)
        raise UsageError(f"--task {arguments.task} does not take {words}, which only restoring has; leave it out.")
    *inputs, out = arguments.paths
    # what is not drawn anew stays as it is to the bit, so results are written without loss unless asked otherwise
    work, _ = jobs(inputs, Path(out), suffix=f".{arguments.format or 'png'}")
    function, model = _task(arguments)
    found = None if arguments.aligned else _detector(arguments)
    failed = 0
    for job in with_folders(work):
        reason, note = job.refusal, ""
        if reason is None:
            try:
                note = _do(function, model, found, job, arguments)
            except (OSError, ValueError) as error:
                reason = str(error)
        if reason is None:
            say(f"{job.source}: {arguments.task}{note}, {job.target}")
        else:
            failed += 1
            say(f"error: {job.source}: {reason}", error=True)
    return _FAILED if failed else 0


def _task(arguments: argparse.Namespace) -> tuple[Any, Any]:
    """Gives the family's function of the task, and the model that it is done with."""
    from codeprior.families import family_of, find_family, installed_families
    from codeprior.restorers import load_restorer
    from codeprior.restorers.tasks import TRAINED_FOR, check_task

    try:
        restorer = load_restorer(
            arguments.weights,
            family=arguments.recipe,
            device=arguments.device,
            options=named_options(arguments.option),
        )
    except FileNotFoundError as error:
        raise UsageError(str(error)) from None
    model, options = restorer.model, restorer.options
    name = family_of(model)
    tasks = find_family(name).tasks if name else {}
    if arguments.task not in tasks:
        having = [one.name for one in installed_families() if arguments.task in one.tasks]
        others = f" Families that have it, with --weights: {', '.join(having)}." if having else ""
        raise UsageError(
            f"{name or type(model).__name__} has no task {arguments.task!r}; it has {_listed(tasks)}.{others}"
        )
    if arguments.task in TRAINED_FOR:
        check_task(arguments.task, model)
    function = pkgutil.resolve_name(tasks[arguments.task])
    return partial(function, options=options) if options else function, model


def _detector(arguments: argparse.Namespace) -> Any:
    from codeprior.photos.faces import detector

    return detector(arguments.detector, weights=arguments.detector_weights, device=arguments.device)


def _do(function: Any, model: Any, found: Any, job: Job, arguments: argparse.Namespace) -> str:
    """Does the task with one file; gives what is to be said of it."""
    from codeprior.photos.files import read, write

    photo = read(job.source)
    mask = None
    if arguments.mask is not None:
        place = arguments.mask / f"{job.source.stem}.png" if arguments.mask.is_dir() else arguments.mask
        mask = (read(place).pixels >= _MARKED).any(-1)
    if found is None:
        answer, note = function(model, photo.pixels, mask), ""
    else:
        answer, note = _filled(function, model, found, photo.pixels, mask, arguments)
    kept = None if arguments.strip_metadata else photo.metadata
    write(job.target, answer, profile=photo.profile, metadata=kept, overwrite=arguments.overwrite)
    return note


def _filled(
    function: Any, model: Any, found: Any, pixels: Any, mask: Any, arguments: argparse.Namespace
) -> tuple[Any, str]:  # fmt: skip
    from codeprior.photos.filling import fill_photo
    from codeprior.photos.preparation import Choices

    choices = Choices(faces=arguments.faces, tint=False, score=arguments.score, smallest=arguments.smallest)
    given = fill_photo(pixels, partial(function, model), found, size=model.size, mask=mask, choices=choices)
    rest = f", {given.left:.0%} of the mask lies on no face and stayed" if given.left else ""
    return given.pixels, f" of {given.faces} face{'s' * (given.faces > 1)}{rest}"


def _listed(tasks: Any) -> str:
    return ", ".join(tasks) or "none"

"""`codeprior degrade IN… OUT --preset NAME`: photographs damaged as a published model's training data was."""

import argparse
import hashlib
import os
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from codeprior.commands._cluster import Work, may_be_a_workers, spread
from codeprior.commands._cluster import add_arguments as add_cluster_arguments
from codeprior.commands._jobs import Job, jobs
from codeprior.commands._outputs import Report, UsageError
from codeprior.commands._printing import say
from codeprior.extras import needed

HELP = "Damage photographs with a published preset, so that the same seed gives the same damage."
_USAGE, _FAILED = 2, 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the words of this command.

    Args:
        parser: The command's own parser.
    """
    parser.add_argument("paths", nargs="*", metavar="IN… OUT", help="files, folders or patterns, and then the output")
    parser.add_argument("--preset", default="daefr", metavar="NAME", help="which damage (default: daefr); see --list")
    parser.add_argument("--list", action="store_true", help="print the presets with their sources, and stop")
    parser.add_argument("--seed", type=int, default=0, help="what the draws of each file follow from, with its name")
    parser.add_argument("--mode", choices=("fast", "strict"), default="fast", help="strict: the plain OpenCV chain")
    parser.add_argument("--sheet", action="store_true", help="also write NAME.sheet.png: the picture after each step")
    parser.add_argument(
        "--record", action="store_true", help="also write NAME.safetensors: the drawn values, to replay"
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="write a JSON line with the drawn values for each")
    parser.add_argument("--overwrite", action="store_true", help="replace results that exist")
    parser.add_argument("--resume", action="store_true", help="leave out photographs whose result exists")
    add_cluster_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Degrades what was asked for.

    Args:
        arguments: As parsed.

    Returns:
        0 all done, 3 some failed, 2 a call that makes no sense.
    """
    from codeprior.degradations import about_preset, preset, preset_names

    if arguments.list:
        for name in preset_names():
            about = about_preset(name)
            chosen = f" (of our own: {about.chosen})" if about.chosen else ""
            say(f"{name:26} {about.status:8} {about.source}{chosen}")
        return 0
    try:
        if len(arguments.paths) < 2:
            raise UsageError("give at least one input and then the output.")
        *inputs, out = arguments.paths
        sheets = [".safetensors"] * arguments.record + [".sheet.png"] * arguments.sheet
        work, ignored = jobs(inputs, Path(out), suffix=None if Path(out).suffix else ".png", sheets=sheets)
        op = preset(arguments.preset)
        for package in ("numba", "cv2"):
            needed(package, who="degrading")
        if arguments.ray:
            needed("ray", who="--ray")
        report = Report(
            arguments.report,
            append=arguments.resume,
            overwrite=arguments.overwrite,
            inputs=[job.source for job in work],
        )
    except (ImportError, OSError, ValueError) as error:
        say(f"codeprior degrade: {error}", error=True)
        return _USAGE
    done = [job for job in work if arguments.resume and not job.refusal and job.target.exists()]
    todo = [job for job in work if job not in set(done)]
    failed = 0
    try:
        for job, entry in _entries(todo, op, arguments):
            report.add(**entry)
            if entry["status"] == "failed":
                failed += 1
                say(f"error: {job.source}: {entry['reason']}", error=True)
    except RuntimeError as error:
        if not arguments.ray:
            raise
        say(f"codeprior degrade: {error}; --resume goes on with what is not done", error=True)
        return _FAILED
    finally:
        report.close()
    if report.failure is not None:
        say(f"codeprior degrade: --report {arguments.report} is not whole: {report.failure.strerror}", error=True)
    counts = [f"{len(todo) - failed} degraded with {arguments.preset}", f"{failed} failed"]
    counts += [f"{len(done)} done before"] if done else []
    counts += [f"{ignored} files ignored that are no pictures"] if ignored else []
    say(f"codeprior degrade: {', '.join(counts)}", error=True)
    return _FAILED if failed or report.failure is not None else 0


def _entries(work: list[Job], op: Any, arguments: argparse.Namespace) -> Iterator[tuple[Job, dict[str, Any]]]:
    """Gives what the report says of each picture, as it is done."""
    if not arguments.ray:
        yield from ((job, _entry(job, op, arguments)) for job in work)
        return
    # what stands in the way of a result is said here: on a worker it is what one that died has written
    lost = [job.refusal or (not arguments.overwrite and os.path.lexists(job.target)) for job in work]
    yield from ((job, _entry(job, op, arguments)) for job, stop in zip(work, lost, strict=True) if stop)
    free = [job for job, stop in zip(work, lost, strict=True) if not stop]
    yield from spread(free, partial(_on_a_worker, arguments), address=arguments.ray, workers=arguments.ray_workers)


def _on_a_worker(arguments: argparse.Namespace) -> Work:
    """Gives what a worker of a cluster does: the same seed gives the same damage, so a picture may be done twice."""
    from codeprior.degradations import preset

    op = preset(arguments.preset)

    def work(jobs: list[Job]) -> Iterator[tuple[Job, dict[str, Any]]]:
        for job in jobs:
            # what is there may be of a worker that died; it is replaced where it is the same
            mine = not arguments.overwrite and may_be_a_workers(job.target) and _is_the_same(job, op, arguments)
            yield (
                job,
                _entry(job, op, argparse.Namespace(**{**vars(arguments), "overwrite": arguments.overwrite or mine})),
            )

    return work


def _is_the_same(job: Job, op: Any, arguments: argparse.Namespace) -> bool:
    """Says whether the file with the name of a result is what this call gives for its photograph."""
    from codeprior.photos.files import read

    alone = argparse.Namespace(**{**vars(arguments), "record": False, "sheet": False})
    with tempfile.TemporaryDirectory() as folder:
        other = job._replace(target=Path(folder, job.target.name))
        try:
            _degrade(other, op, alone)
            return bool((read(other.target).pixels == read(job.target).pixels).all())
        except (OSError, ValueError):
            return False


def _entry(job: Job, op: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    entry = {"input": str(job.source), "output": str(job.target), "preset": arguments.preset, "seed": arguments.seed}
    try:
        if job.refusal:
            raise ValueError(job.refusal)
        return {**entry, "status": "degraded", "reason": None, "values": _degrade(job, op, arguments)}
    except (OSError, ValueError) as error:
        return {**entry, "status": "failed", "reason": str(error) or type(error).__name__}


def _degrade(job: Job, op: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    import numpy as np
    import torch

    from codeprior.degradations import steps
    from codeprior.photos.files import read, write

    target, record, sheet = job.target, job.beside(".safetensors"), job.beside(".sheet.png")
    for path in [target] + [record] * arguments.record + [sheet] * arguments.sheet:
        if os.path.lexists(path) and not arguments.overwrite:
            raise FileExistsError(f"{path} exists already and is kept; give --overwrite to replace it")
    image = torch.from_numpy(np.ascontiguousarray(read(job.source).pixels)).permute(2, 0, 1).contiguous()
    drawn = op.sample(image, torch.Generator().manual_seed(_seed(arguments.seed, job.source.name)))
    result = op.apply(image, drawn, mode=arguments.mode)
    target.parent.mkdir(parents=True, exist_ok=True)
    write(target, np.ascontiguousarray(result.permute(1, 2, 0).numpy()), overwrite=arguments.overwrite)
    if arguments.record:
        drawn.save(record, overwrite=arguments.overwrite)
    if arguments.sheet:
        from codeprior.commands._sheet import contact_sheet

        write(sheet, contact_sheet(image, steps(op, image, drawn)), overwrite=arguments.overwrite)
    return drawn.describe(0)


def _seed(seed: int, name: str) -> int:
    """Follows from the seed and the file's own name, so that other files beside it change nothing."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode(errors="surrogateescape")).digest()[:7], "little")

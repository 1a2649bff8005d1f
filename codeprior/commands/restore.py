"""`codeprior restore IN… OUT`: faces in photographs, folders and patterns, restored and reported one by one."""

import argparse
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from codeprior.commands._cluster import Work, may_be_a_workers, spread
from codeprior.commands._cluster import add_arguments as add_cluster_arguments
from codeprior.commands._jobs import Job, jobs, landmarks, with_folders
from codeprior.commands._outputs import Report, UsageError, named_options
from codeprior.commands._printing import reason_of, say
from codeprior.extras import needed
from codeprior.families import family_names
from codeprior.files import VIDEOS

HELP = "Restore the faces of photographs: files, folders or patterns, into a folder or one file; or of one video."
_FAILED, _USAGE = 3, 2
_EMBEDDED = "small"  # weights in the package


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the words of this command.

    Args:
        parser: The command's own parser.
    """
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="inputs, then the output: a folder, or a picture's name"
    )
    parser.add_argument("--recipe", choices=family_names(), help="model family (default: the one of the weights)")
    parser.add_argument(
        "--weights",
        default=_EMBEDDED,
        help="weights file of any installed family, or small: the embedded prior (default)",
    )
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option of the model, as codeprior families lists them; may be given several times",
    )
    parser.add_argument(
        "--task", metavar="NAME", help="instead of restoring: inpaint; or, with --aligned, colourise or draw"
    )
    parser.add_argument(
        "--mask",
        type=Path,
        metavar="FILE|DIR",
        help="with --task: a picture that is white where to draw, or a folder of them (default: the white of the face)",
    )
    parser.add_argument("--aligned", action="store_true", help="each input is one aligned face already")
    parser.add_argument("--faces", default="all", help="all, largest, centre, or a number from 0, left to right")
    parser.add_argument("--landmarks", type=Path, metavar="FILE", help="JSON: file name to five points a face")
    parser.add_argument("--strength", type=float, default=1.0, help="0 the input face, 1 the restored one (default)")
    parser.add_argument(
        "--fidelity",
        default="auto",
        metavar="auto|0..1",
        help="0 follows the model, 1 the photograph; auto (default) chooses for each face by its remaining detail",
    )
    parser.add_argument(
        "--grain",
        default="auto",
        metavar="auto|0..1",
        help="share of the photograph's grain that a mended face has again; auto (default): all of fine grain, a part "
        "of heavy noise, none in videos",
    )
    parser.add_argument(
        "--always",
        action="store_true",
        help="restore every face as the model says, also those that hold more than the model gives back",
    )
    parser.add_argument(
        "--match-colour",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="give restored faces the coarse colours of the input's, and keep grey or tinted ones so (default: yes)",
    )
    parser.add_argument("--detector", default="mtcnn", help="mtcnn (default), retinaface, yunet or uniface")
    parser.add_argument("--detector-weights", type=Path, metavar="FILE", help="weight file of the detector")
    parser.add_argument("--parser", type=Path, metavar="FILE", help="weight file of a face parser: hair stays as it is")
    parser.add_argument(
        "--upscale",
        type=int,
        choices=(2, 4),
        help="enlarge the whole photograph, with its faces restored at the new size",
    )
    parser.add_argument(
        "--background", type=Path, metavar="FILE", help="with --upscale: super-resolution weights for all but the faces"
    )
    parser.add_argument("--score", type=float, default=0.9, help="least score of a face (default: 0.9)")
    parser.add_argument("--smallest", type=float, default=16.0, help="least distance of the eyes, pixels (default: 16)")
    parser.add_argument("--batch", type=int, default=8, help="faces that go through the network at once (default: 8)")
    parser.add_argument(
        "--steady",
        type=float,
        default=0.2,
        metavar="0..1",
        help="videos: share of a new frame where a face does not change; 1 takes each by itself (default: 0.2)",
    )
    parser.add_argument("--device", default="cpu", help="where the network runs: cpu (default), cuda, mps")
    parser.add_argument(
        "--format", choices=("png", "jpg", "webp", "tif"), help="format of the results (default: as read)"
    )
    parser.add_argument("--keep-alpha", action="store_true", help="keep transparency instead of laying it over white")
    parser.add_argument("--strip-metadata", action="store_true", help="leave out date, camera, description and place")
    parser.add_argument("--overwrite", action="store_true", help="replace results that exist")
    parser.add_argument("--resume", action="store_true", help="leave out photographs whose result exists")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write a JSON line for each input")
    add_cluster_arguments(parser)
    parser.add_argument("--compare", action="store_true", help="also write sheets: before, after, each face")
    parser.add_argument("--uncertainty", action="store_true", help="also write maps of where the model guessed")
    parser.add_argument("--quiet", action="store_true", help="no progress; errors and the summary remain")


def run(arguments: argparse.Namespace) -> int:
    """Restores what was asked for.

    Args:
        arguments: As parsed.

    Returns:
        0 all restored or left as they were, 3 some failed, 2 a call that makes no sense.
    """
    try:
        if arguments.task is not None:
            from codeprior.commands._tasks import run_task

            return run_task(arguments, _given(arguments))
        if arguments.mask is not None:
            raise UsageError("--mask says where a --task draws; give a task with it.")
        if len(arguments.paths) < 2:
            raise UsageError("give at least one input and then the output.")
        if arguments.batch < 1:
            raise UsageError(f"--batch must be at least 1, got {arguments.batch}.")
        if arguments.background is not None and arguments.upscale is None:
            raise UsageError("--background is what enlarges a photograph; give --upscale 2 or 4 with it.")
        for name in ("aligned", "compare", "uncertainty"):
            if arguments.upscale is not None and getattr(arguments, name):
                raise UsageError(f"--upscale is for whole photographs alone; leave --{name} out.")
        if Path(arguments.paths[0]).suffix.lower() in VIDEOS:
            from codeprior.commands._video import run_video

            return run_video(arguments, lambda: _worker(arguments, {}))
        *inputs, out = arguments.paths
        sheets = [".compare.png"] * arguments.compare + [".uncertainty.png"] * arguments.uncertainty
        suffix = f".{arguments.format}" if arguments.format else None
        work, ignored = jobs(inputs, Path(out), suffix=suffix, sheets=sheets)
        points = landmarks(arguments.landmarks, work) if arguments.landmarks else {}
        if arguments.ray:
            needed("ray", who="--ray")
        worker = None if arguments.ray else _worker(arguments, points)
        work = with_folders(work)
        read = [job.source for job in work]
        report = Report(arguments.report, append=arguments.resume, overwrite=arguments.overwrite, inputs=read)
    except (OSError, ImportError, RuntimeError, ValueError) as error:
        text = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.strerror else error
        say(f"codeprior restore: {text}", error=True)
        return _USAGE
    try:
        return _all(work, worker, report, arguments, ignored, points)
    except RuntimeError as error:
        if not arguments.ray:
            raise
        say(f"codeprior restore: {error}; --resume goes on with what is not done", error=True)
        return _FAILED
    finally:
        report.close()


def _worker(arguments: argparse.Namespace, points: dict[Path, list[Any]]) -> Any:
    from codeprior.commands._restoring import Worker, bound_memory
    from codeprior.devices import usable_device
    from codeprior.photos.faces import detector, parser
    from codeprior.photos.restoration import Choices
    from codeprior.photos.upscaling import Upscaling, load_enlarger
    from codeprior.restorers import load_restorer

    bound_memory()
    upscaling = None
    if arguments.upscale is not None:
        file = arguments.background
        upscaling = Upscaling(arguments.upscale, None if file is None else load_enlarger(file, device=arguments.device))
    choices = Choices(
        faces=arguments.faces,
        aligned=arguments.aligned,
        strength=arguments.strength,
        colour=arguments.match_colour,
        tint=arguments.match_colour,
        fidelity=arguments.fidelity,
        grain=arguments.grain,
        always=arguments.always,
        score=arguments.score,
        smallest=arguments.smallest,
    )
    usable_device("--device", arguments.device)
    try:
        restorer = load_restorer(
            arguments.weights,
            family=arguments.recipe,
            device=arguments.device,
            batch=arguments.batch,
            options=named_options(arguments.option),
        )
    except FileNotFoundError:
        if arguments.recipe is not None and arguments.weights == _EMBEDDED:
            raise UsageError(
                f"{arguments.recipe} has no weights in the package; give --weights FILE. Where a family's weights are "
                "published is in codeprior families and in its README."
            ) from None
        raise UsageError(
            f"--weights {arguments.weights}: there is no such file; give one that codeprior convert or codeprior.save "
            "wrote, or the name of embedded weights, as codeprior families lists them."
        ) from None
    _say_other_task(restorer.model)
    found = (
        None
        if arguments.aligned
        else detector(arguments.detector, weights=arguments.detector_weights, device=arguments.device)
    )
    if arguments.parser is not None and arguments.aligned:
        raise UsageError("--parser is about pasting back, and --aligned pastes nothing; leave one of them out.")
    mask = None if arguments.parser is None else parser(arguments.parser, device=arguments.device)
    return Worker(
        restorer,
        found,
        choices=choices,
        points=points,
        mask=mask,
        keep_alpha=arguments.keep_alpha,
        overwrite=arguments.overwrite,
        compare=arguments.compare,
        uncertainty=arguments.uncertainty,
        resume=arguments.resume,
        metadata=not arguments.strip_metadata,
        upscaling=upscaling,
    )


def _given(arguments: argparse.Namespace) -> set[str]:
    """Gives the names of the arguments that are not as they are when nobody gives them."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return {name for name, value in vars(arguments).items() if value != parser.get_default(name)}


def _say_other_task(model: Any) -> None:
    """Says so where weights were trained for something else than restoring."""
    from codeprior.restorers.tasks import TRAINED_FOR

    trained = getattr(model, "task", None)
    for task, what in TRAINED_FOR.items():
        if trained == what:
            say(f"codeprior restore: the weights are for {what}; --task {task} does what they learned", error=True)


def _done(jobs: list[Job], worker: Any, batch: int) -> Iterator[tuple[Job, dict[str, Any]]]:
    """Gives what the report says of each photograph, as it is done."""
    from codeprior.photos.stream import stream

    for outcome in stream(jobs, worker.restore, prepare=worker.prepare, finish=worker.finish, batch=batch):
        if outcome.error is not None:
            worker.forget(outcome.job)
            yield outcome.job, {"status": "failed", "reason": reason_of(outcome.error)}
        else:
            yield outcome.job, outcome.result


def _on_a_worker(arguments: argparse.Namespace, points: dict[Path, list[Any]]) -> Work:
    """Gives what a worker of a cluster does; what a worker that died has written counts as done."""
    # sheets of a photograph whose result is not there are of that worker, and are replaced
    worker = _worker(argparse.Namespace(**{**vars(arguments), "resume": True}), points)

    def work(jobs: list[Job]) -> Iterator[tuple[Job, dict[str, Any]]]:
        written = {job for job in jobs if not arguments.overwrite and may_be_a_workers(job.target)}
        for job in written:
            note = "written by a worker that ended before it could say more"
            yield job, {"status": "restored", "reason": None, "notes": [note]}
        yield from _done([job for job in jobs if job not in written], worker, arguments.batch)

    return work


def _all(
    work: list[Job], worker: Any, report: Report, arguments: argparse.Namespace, ignored: int, points: dict[Path, Any]
) -> int:
    from tqdm import tqdm

    from codeprior.files import printable, sweep

    counts = {"restored": 0, "untouched": 0, "failed": 0, "skipped": 0}
    started = time.monotonic()
    for folder in {job.target.parent for job in work}:
        sweep(folder)
    bar = tqdm(total=len(work), unit="photo", disable=arguments.quiet or not sys.stderr.isatty(), file=sys.stderr)

    def note(job: Job, status: str, reason: str | None, **more: Any) -> None:
        counts[status] += 1
        report.add(input=str(job.source), output=str(job.target), status=status, reason=reason, **more)
        if status == "failed":
            bar.write(f"error: {printable(job.source)}: {printable(reason)}", file=sys.stderr)
        bar.update()

    todo = []
    for job in work:
        if job.refusal:
            note(job, "failed", job.refusal)
        elif arguments.resume and job.target.exists():
            note(job, "skipped", "its result exists")
        elif arguments.ray and job.target.exists() and not arguments.overwrite:
            note(job, "failed", f"its result {job.target} exists already and is kept (--overwrite replaces it)")
        else:
            todo.append(job)
    done = _done(todo, worker, arguments.batch) if worker is not None else spread(
        todo, partial(_on_a_worker, arguments, points), address=arguments.ray, workers=arguments.ray_workers,
        gpu=arguments.device.startswith("cuda"),
    )  # fmt: skip
    for job, entry in done:
        note(job, **entry)
    bar.close()
    seconds = time.monotonic() - started
    parts = [f"{counts['restored']} restored"]
    left = counts["untouched"]
    parts += [f"{left} left as {'it was' if left == 1 else 'they were'}"] if left else []
    parts += [f"{counts['failed']} failed"]
    parts += [f"{counts['skipped']} done before"] if counts["skipped"] else []
    parts += [f"{ignored} files ignored that are no pictures"] if ignored else []
    say(f"codeprior restore: {', '.join(parts)}; {seconds:.1f} s", error=True)
    if left and not arguments.quiet:
        say(
            "left are photographs whose faces hold as much detail as the model gives back; --report FILE says it of "
            "each face, --always restores them all the same",
            error=True,
        )
    if report.failure is not None:
        say(f"codeprior restore: --report {arguments.report} is not whole: {report.failure.strerror}", error=True)
    return _FAILED if counts["failed"] or report.failure is not None else 0

"""`codeprior inspect PHOTO…`: how each face was damaged and how far it can be trusted, in words, numbers, a picture."""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from codeprior.commands._jobs import pictures
from codeprior.commands._outputs import Report, UsageError
from codeprior.commands._printing import reason_of, say

HELP = "Say how the faces of photographs are damaged: blur, reduction, noise, JPEG, and how far their detail goes."
_FAILED, _USAGE = 3, 2
_PLOTTED = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the words of this command.

    Args:
        parser: The command's own parser.
    """
    parser.add_argument("paths", nargs="+", metavar="PHOTO", help="files, folders or patterns")
    parser.add_argument("--aligned", action="store_true", help="each input is one face already, of any size")
    parser.add_argument("--faces", default="all", help="all, largest, centre, or a number from 0, left to right")
    parser.add_argument("--detector", default="mtcnn", help="mtcnn (default), retinaface, yunet or uniface")
    parser.add_argument("--detector-weights", type=Path, metavar="FILE", help="weight file of the detector")
    parser.add_argument("--score", type=float, default=0.9, help="least score of a face (default: 0.9)")
    parser.add_argument("--smallest", type=float, default=16.0, help="least distance of the eyes, pixels (default: 16)")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="another estimator, written by codeprior.save")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw each face with its spectrum and its limit")
    parser.add_argument("--overwrite", action="store_true", help="replace a plot or a report that exists")
    parser.add_argument("--json", action="store_true", help="print the lines of the report instead of words")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write a JSON line for each input")


def run(arguments: argparse.Namespace) -> int:
    """Inspects what was asked for.

    Args:
        arguments: As parsed.

    Returns:
        0 all inspected, 3 some failed, 2 a call that makes no sense.
    """
    from codeprior.estimators import load_estimator
    from codeprior.photos.files import write
    from codeprior.photos.restoration import Choices

    try:
        work, ignored = pictures(arguments.paths)
        choices = Choices(
            faces=arguments.faces, aligned=arguments.aligned, score=arguments.score, smallest=arguments.smallest
        )
        if arguments.plot is not None:
            _check_plot(arguments.plot, arguments.overwrite)
        estimator, detector = load_estimator(arguments.weights), _detector(arguments)
        report = Report(arguments.report, overwrite=arguments.overwrite, inputs=work)
    except (OSError, ImportError, RuntimeError, ValueError) as error:
        text = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.strerror else error
        say(f"codeprior inspect: {text}", error=True)
        return _USAGE
    failed, seen = 0, []
    for source in work:
        started = time.monotonic()
        try:
            faces, entries = _inspected(source, estimator, detector, choices)
            entry = {"status": "inspected", "reason": None, "faces": entries}
            seen += [(f"{source.name}, face {n}", *both) for n, both in enumerate(zip(faces, entries, strict=True))]
        except Exception as error:  # one photograph never ends the run
            failed, entry = failed + 1, {"status": "failed", "reason": reason_of(error)}
        entry = {"input": str(source), **entry, "seconds": round(time.monotonic() - started, 3)}
        report.add(**entry)
        _tell(source, entry, as_json=arguments.json)
        seen = seen[:_PLOTTED] if arguments.plot else []
    report.close()
    if arguments.plot is not None and seen:
        from codeprior.commands._inspecting import drawing

        try:
            write(arguments.plot, drawing(seen), overwrite=arguments.overwrite)
        except ValueError as error:
            say(f"error: {error}", error=True)
            failed += 1
    counts = [f"{len(work) - failed} inspected", f"{failed} failed"]
    counts += [f"{ignored} files ignored that are no pictures"] if ignored else []
    say(f"codeprior inspect: {', '.join(counts)}", error=True)
    return _FAILED if failed else 0


def _check_plot(path: Path, overwrite: bool) -> None:
    if path.suffix.lower() != ".png":
        raise UsageError(f"--plot {path}: the picture is a PNG; choose a name that ends in .png.")
    if path.exists() and not overwrite:
        raise UsageError(f"--plot {path} exists already and is kept; give --overwrite to replace it.")
    path.parent.mkdir(parents=True, exist_ok=True)


def _detector(arguments: argparse.Namespace) -> Any:
    from codeprior.commands._restoring import bound_memory
    from codeprior.photos.faces import detector

    bound_memory()
    return None if arguments.aligned else detector(arguments.detector, weights=arguments.detector_weights)


def _inspected(source: Path, estimator: Any, detector: Any, choices: Any) -> tuple[list[Any], list[dict[str, Any]]]:
    from codeprior.commands._inspecting import cut_faces, described
    from codeprior.photos.files import read

    faces = cut_faces(read(source).pixels, detector, choices)
    return [face.image for face in faces], [described(face, estimator.examine(face.image[None])) for face in faces]


def _tell(source: Path, entry: dict[str, Any], *, as_json: bool) -> None:
    from codeprior.commands._inspecting import in_words

    if as_json:
        say(json.dumps(entry, ensure_ascii=True))
    if entry["status"] == "failed":
        say(f"error: {source}: {entry['reason']}", error=True)
    elif not as_json:
        say(str(source))
        for number, face in enumerate(entry["faces"]):
            say(f"  face {number}: {in_words(face)}")

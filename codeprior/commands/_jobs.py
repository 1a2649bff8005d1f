"""What `codeprior restore` is asked to do: inputs walked, outputs named, and a line of report for each."""

import glob
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from codeprior.commands._outputs import UsageError
from codeprior.files import ONLY_READ, PICTURES, writable_name
from codeprior.photos.files import looks_like_photo

WRITABLE = PICTURES
RESERVES = os.name == "nt"
"""Whether the system keeps names and characters for itself."""


class Job(NamedTuple):
    """One photograph to restore.

    Attributes:
        source: Where it is read.
        target: Where the result goes.
        refusal: Why it is not even tried, or None.
        stem: What its sheets are called before their endings; the name of the result without its suffix, or with it
            where two results differ in the suffix alone.
        relative: The source below the folder that was given; its bare name where a file was given.
    """

    source: Path
    target: Path
    refusal: str | None = None
    stem: str = ""
    relative: Path = Path()

    def beside(self, ending: str) -> Path:
        """Gives the place of a sheet.

        Args:
            ending: Such as `.compare.png`.
        """
        return self.target.with_name((self.stem or self.target.stem) + ending)


def jobs(
    inputs: Sequence[str], out: Path, *, suffix: str | None = None, sheets: Sequence[str] = ()
) -> tuple[list[Job], int]:
    """Gives the photographs that the inputs name, in a fixed order, each with a place for its result.

    Args:
        inputs: Files, folders (walked, links to folders not followed) and patterns.
        out: A folder; or a file, where there is exactly one input file.
        suffix: Suffix of the results; None keeps the input's where it can be written, and takes `.png` where not.
        sheets: Endings of what is written beside each result.

    Returns:
        The jobs, and the number of files in folders that are no pictures by name nor by content. No two jobs write to
        one name, and none writes to the name of an input: such a job has a refusal.

    Raises:
        UsageError: Nothing is there to do, a pattern matches nothing, a file is given where a folder is needed, or
            `out` names a picture of a format that is never written.
    """
    files, ignored = _files(inputs, out)
    if not files:
        others = f"; {ignored} files there are none" if ignored else ""
        raise UsageError(f"found no picture in {', '.join(inputs)}{others}.")
    if out.suffix.lower() in WRITABLE and not out.is_dir():
        if len(files) != 1 or Path(inputs[0]).is_dir():
            raise UsageError(f"{out} names one picture, but the input is not one file; give a folder.")
        planned = [Job(files[0][0], out, relative=files[0][1])]
    elif out.suffix.lower() in ONLY_READ and not out.is_dir():
        raise UsageError(
            f"{out} names a picture of a format that is read and never written; give {', '.join(WRITABLE)} or a folder."
        )
    elif out.exists() and not out.is_dir():
        raise UsageError(f"{out} exists and is no folder; give a folder or the name of a picture.")
    else:
        planned = [Job(source, _target(out, relative, suffix), relative=relative) for source, relative in files]
    read = {os.path.realpath(source): source for source, _ in files}
    taken: dict[str, Path] = {}
    for place, job in enumerate(planned):
        planned[place] = job._replace(refusal=_refusal(job, read, taken))
    return [_with_sheets(job, sheets, read, taken) for job in planned], ignored


def with_folders(work: Sequence[Job]) -> list[Job]:
    """Makes the folders of the results; a job whose folder cannot be made is refused, and only that one.

    Args:
        work: The jobs.

    Raises:
        OSError: None of the folders can be made.
    """
    errors: dict[Path, OSError] = {}
    folders = dict.fromkeys(job.target.parent for job in work if job.refusal is None)
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            errors[folder] = error
    if errors and len(errors) == len(folders):
        raise next(iter(errors.values()))
    reasons = {folder: f"its folder {folder} cannot be made: {error.strerror}" for folder, error in errors.items()}
    return [job._replace(refusal=job.refusal or reasons.get(job.target.parent)) for job in work]


def pictures(inputs: Sequence[str]) -> tuple[list[Path], int]:
    """Gives the photographs that the inputs name, in a fixed order, where nothing is to be written beside them.

    Args:
        inputs: Files, folders (walked, links to folders not followed) and patterns.

    Returns:
        The files, and the number of files in folders that are no pictures by name nor by content.

    Raises:
        UsageError: A pattern matches nothing.
    """
    files, ignored = _files(inputs, Path(os.devnull))
    return [source for source, _ in files], ignored


def landmarks(path: Path, work: Sequence[Job]) -> dict[Path, list[Any]]:
    """Reads hand-made landmarks: JSON, a mapping from file names to lists of faces.

    Args:
        path: The JSON file; names are paths as given, paths below the folder that was given, or bare file names.
        work: The photographs.

    Returns:
        Faces of each photograph that is named.

    Raises:
        UsageError: It is not such a file, is about other photographs only, or has a name that fits several.
    """
    from codeprior.photos.faces import from_landmarks

    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(entries, Mapping):
            raise ValueError("expected a mapping from file names to lists of faces")
        named = {name: from_landmarks(faces) for name, faces in entries.items()}
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: {error}") from error
    found: dict[Path, list[Any]] = {}
    used: dict[str, Path] = {}
    for job in work:
        key = next((key for key in (str(job.source), job.relative.as_posix(), job.source.name) if key in named), None)
        if key is None:
            continue
        # a path as it was given names one file; a bare name may fit several
        if key in used:
            raise UsageError(f"{path}: {key} fits {used[key]} and {job.source}; give the path of each as its key.")
        used[key], found[job.source] = job.source, named[key]
    for key, source in used.items():
        twins = [job.source for job in work if job.source.name == key and job.source != source]
        if twins and key != str(source):
            raise UsageError(f"{path}: {key} fits {source} and {twins[0]}; give the path of each as its key.")
    if named and not used:
        first = next(iter(named))
        raise UsageError(f"{path}: none of its names is an input's, such as {first}; keys are paths or file names")
    return found


def _target(out: Path, relative: Path, suffix: str | None) -> Path:
    ending = suffix or (relative.suffix if relative.suffix.lower() in WRITABLE else ".png")
    below = relative.with_suffix(ending)
    return out / (Path(*map(writable_name, below.parts)) if RESERVES else below)


def _refusal(job: Job, read: Mapping[str, Path], taken: dict[str, Path]) -> str | None:
    # names that differ in case alone are one file on many disks
    first = taken.setdefault(str(job.target).casefold(), job.source)
    if first is not job.source:
        return f"its result {job.target} would be that of {first}; rename one of them"
    replaced = read.get(os.path.realpath(job.target))
    if replaced is None:
        return None
    what = "the photograph itself" if replaced == job.source else f"the input {replaced}"
    return f"its result {job.target} would replace {what}; give another folder or format"


def _with_sheets(job: Job, sheets: Sequence[str], read: Mapping[str, Path], taken: dict[str, Path]) -> Job:
    if job.refusal or not sheets:
        return job
    for stem in (job.target.stem, job.target.name):
        places = [job.target.with_name(stem + ending) for ending in sheets]
        if not any(str(p).casefold() in taken or os.path.realpath(p) in read for p in places):
            taken.update({str(place).casefold(): job.source for place in places})
            return job._replace(stem=stem)
    return job._replace(refusal=f"its sheet {places[0]} would have the name of another file; rename one of them")


def _files(inputs: Sequence[str], out: Path) -> tuple[list[tuple[Path, Path]], int]:
    found: list[tuple[Path, Path]] = []
    ignored = 0
    for word in inputs:
        path = Path(word)
        if not os.path.lexists(path) and glob.has_magic(word):
            matches = sorted(glob.glob(word, recursive=True))
            if not matches:
                raise UsageError(f"{word} matches nothing.")
            for match in map(Path, matches):
                more, skipped = _walked(match, out) if match.is_dir() else ([(match, Path(match.name))], 0)
                found, ignored = found + more, ignored + skipped
        elif path.is_dir():
            more, skipped = _walked(path, out)
            found, ignored = found + more, ignored + skipped
        else:
            found.append((path, Path(path.name)))
    unique = {os.path.abspath(path): (path, relative) for path, relative in reversed(found)}
    return list(reversed(unique.values())), ignored


def _walked(folder: Path, out: Path) -> tuple[list[tuple[Path, Path]], int]:
    found, ignored = [], 0
    base, skipped = os.path.realpath(folder), os.path.realpath(out)
    # results of an earlier run below the folder are no inputs; a folder that the results surround is one
    inside = skipped + os.sep if skipped.startswith(base + os.sep) else None
    for path in _paths(folder):
        relative = path.relative_to(folder)
        if inside and os.path.join(base, relative).startswith(inside):
            continue
        if looks_like_photo(path):
            found.append((path, relative))
        else:
            ignored += 1
    return found, ignored


def _paths(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root) / name for name in sorted(names) if not name.startswith("."))

"""What `codeprior restore` is asked to do: inputs walked, outputs named, and a line of report for each."""

import glob
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from codeprior.photos.files import looks_like_photo

WRITABLE = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")


class Job(NamedTuple):
    """One photograph to restore.

    Attributes:
        source: Where it is read.
        target: Where the result goes; the suffix may change with the format found.
        refusal: Why it is not even tried, or None.
    """

    source: Path
    target: Path
    refusal: str | None = None


class UsageError(ValueError):
    """The call makes no sense; the text says what to give instead."""


def jobs(inputs: Sequence[str], out: Path, *, suffix: str | None = None) -> tuple[list[Job], int]:
    """Gives the photographs that the inputs name, in a fixed order, each with a place for its result.

    Args:
        inputs: Files, folders (walked, links to folders not followed) and patterns.
        out: A folder; or a file, where there is exactly one input file.
        suffix: Suffix of the results; None keeps the input's where it can be written, and takes `.png` where not.

    Returns:
        The jobs, and the number of files in folders that are no pictures by name nor by content.

    Raises:
        UsageError: A pattern matches nothing, or a file is given where a folder is needed.
    """
    files, ignored = _files(inputs, out)
    if out.suffix.lower() in WRITABLE and not out.is_dir():
        if len(files) != 1 or Path(inputs[0]).is_dir():
            raise UsageError(f"{out} names one picture, but the input is not one file; give a folder.")
        return [Job(files[0][0], out)], ignored
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} exists and is no folder; give a folder or the name of a picture.")
    taken: dict[str, Path] = {}
    result = []
    for source, relative in files:
        ending = suffix or (relative.suffix if relative.suffix.lower() in WRITABLE else ".png")
        target = out / relative.with_suffix(ending)
        # names that differ in case alone are one file on many disks
        first = taken.setdefault(str(target).casefold(), source)
        refusal = None if first is source else f"its result {target} would be that of {first}; rename one of them"
        result.append(Job(source, target, refusal))
    return result, ignored


def landmarks(path: Path, sources: Sequence[Path]) -> dict[Path, list[Any]]:
    """Reads hand-made landmarks: JSON, a mapping from file names to lists of faces.

    Args:
        path: The JSON file; names are paths as given, or bare file names.
        sources: The photographs.

    Returns:
        Faces of each photograph that is named.

    Raises:
        UsageError: It is not such a file, or is about other photographs only.
    """
    from codeprior.photos.faces import from_landmarks

    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(entries, Mapping):
            raise ValueError("expected a mapping from file names to lists of faces")
        named = {name: from_landmarks(faces) for name, faces in entries.items()}
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error
    strange = [name for name in named if not any(name in (str(source), source.name) for source in sources)]
    if strange and len(strange) == len(named):
        raise UsageError(f"{path}: none of its names is an input's, such as {strange[0]}; keys are paths or file names")
    return {
        source: named[key]
        for source in sources
        for key in [str(source) if str(source) in named else source.name]
        if key in named
    }


class Report:
    """A file with a JSON line for each photograph, written as it is done.

    Args:
        path: Where to; None keeps no report.
        append: Go on with an existing report.
    """

    def __init__(self, path: Path | None, *, append: bool = False):
        self._file: TextIO | None = None
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            torn = append and path.exists() and path.read_bytes()[-1:] not in (b"", b"\n")  # by a kill
            self._file = path.open("a" if append else "w", encoding="utf-8")
            self._file.write("\n" if torn else "")

    def add(self, **entry: Any) -> None:
        """Writes one line at once, so that it survives a kill."""
        if self._file:
            self._file.write(json.dumps(entry, ensure_ascii=True) + "\n")
            self._file.flush()

    def close(self) -> None:
        """Ends the report."""
        if self._file:
            self._file.close()


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
    found, ignored, skipped = [], 0, os.path.abspath(out)
    for path in _paths(folder):
        if os.path.abspath(path).startswith(skipped + os.sep):
            continue
        if looks_like_photo(path):
            found.append((path, path.relative_to(folder)))
        else:
            ignored += 1
    return found, ignored


def _paths(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root) / name for name in sorted(names) if not name.startswith("."))

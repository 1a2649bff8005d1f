"""Files that a command writes beside its results: never over something that it did not write itself."""

import contextlib
import json
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import IO, Any

from codeprior import files


class UsageError(ValueError):
    """The call makes no sense; the text says what to give instead."""


class Report:
    """A file with a JSON line for each photograph, written as it is done.

    Args:
        path: Where to; None keeps no report.
        append: Go on with an existing report.
        overwrite: Replace what has the name.
        inputs: What is read; none of it is ever replaced.

    Attributes:
        failure: Why lines are missing, such as a full disk; None where all were written.

    Raises:
        UsageError: The name is an input's, or something has it that is not to be replaced or gone on with.
        OSError: It cannot be written.
    """

    def __init__(
        self, path: Path | None, *, append: bool = False, overwrite: bool = False, inputs: Iterable[Path] = ()
    ):
        self._file: IO[str] | None = None
        self.failure: OSError | None = None
        if path is None:
            return
        if any(_same(path, one) for one in inputs):
            raise UsageError(f"--report {path} is one of the inputs, which are kept; give another name.")
        files.make_folder(path.parent)
        torn = False
        if os.path.lexists(path):
            if append:
                torn = _ends_torn(path)
            elif overwrite:
                files.write(path, b"", overwrite=True)
            else:
                raise UsageError(f"--report {path} exists already and is kept; give another name, or --overwrite.")
        self._file = files.reopen(path, text=True)
        self._write("\n" if torn else "")

    def add(self, **entry: Any) -> None:
        """Writes one line at once, so that it survives a kill; a disk that refuses ends the report, not the work."""
        self._write(json.dumps(entry, ensure_ascii=True) + "\n")

    def close(self) -> None:
        """Ends the report."""
        if self._file:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def _write(self, line: str) -> None:
        if self._file is None:
            return
        try:
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            self.failure = error
            self.close()


def check_outputs(folder: Path, names: Iterable[str], *, marker: str, keys: Collection[str], overwrite: bool) -> None:
    """Refuses a folder in which files have the names of results and no earlier run of the same command wrote them.

    Args:
        folder: Where the results go.
        names: What is written.
        marker: The one of them by which an earlier run is known: JSON, or JSON in its first line.
        keys: What that JSON has.
        overwrite: Replace whatever is there.

    Raises:
        UsageError: Something would be lost.
    """
    taken = [name for name in names if os.path.lexists(folder / name)]
    if taken and not overwrite and not _is_marked(folder / marker, keys):
        raise UsageError(
            f"{folder / taken[0]} exists already, and not from an earlier run of this command; it is kept. "
            "Give another folder, or --overwrite where the command has it."
        )


def _is_marked(path: Path, keys: Collection[str]) -> bool:
    try:
        with files.opened(path) as file:
            first = file.readline(2**20)
            found = json.loads(first if first.rstrip().endswith(b"}") and len(first) > 2 else first + file.read(2**24))
        return isinstance(found, dict) and set(keys) <= set(found)
    except (OSError, ValueError, RecursionError):
        return False


def _ends_torn(path: Path) -> bool:
    """Says whether a kill has cut the last line of a report, and refuses what is no report."""
    with files.opened(path) as file:
        first = file.readline(2**20)
        try:
            known = not first or (isinstance(found := json.loads(first), dict) and {"input", "status"} <= set(found))
        except (ValueError, RecursionError):
            known = not first.endswith(b"\n") and first.startswith(b'{"input"')
        if not known:
            raise UsageError(f"--report {path} exists and is no report of this command; it is kept, give another name.")
        file.seek(max(0, file.seek(0, 2) - 1))
        return file.read() not in (b"", b"\n")


def _same(first: Path, second: Path) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samefile(first, second)
    return os.path.realpath(first) == os.path.realpath(second)


def named_options(words: list[str]) -> dict[str, str]:
    """Gives the options of a model by name.

    Args:
        words: Each `NAME=VALUE`.

    Raises:
        UsageError: One is not of that form.
    """
    pairs = [word.partition("=") for word in words]
    for word, (name, equals, value) in zip(words, pairs, strict=True):
        if not (name and equals and value):
            raise UsageError(f"--option {word}: expected NAME=VALUE.")
    return {name: value for name, _, value in pairs}

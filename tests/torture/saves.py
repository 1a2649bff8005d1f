"""Every file operation of a save, stopped there: by a kill, or by a power failure.

The operations of `files` and `checkpoint` go through `os`; a stand-in counts them and stops the save before the one
that is asked for. A power failure is modelled twice, because file systems differ: files that were not synchronised
are torn, and names that their folder had not synchronised either stay or are as they were before.
"""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from codeprior import files
from codeprior.training import checkpoint, manifest

Failure = Literal["kill", "power loss, names kept", "power loss, names lost"]
FAILURES: tuple[Failure, ...] = ("kill", "power loss, names kept", "power loss, names lost")
_COUNTED = ("open", "write", "fsync", "rename", "mkdir", "unlink", "rmdir")


class Stop(BaseException):
    """The moment at which everything ends."""


class Disk:
    """Stands where `os` stood, counts what changes the disk, and stops before operation number `stop`."""

    def __init__(self, stop: int | None):
        self.stop, self.done = stop, 0
        self.log: list[str] = []
        self._paths: dict[int, Path] = {}
        self._torn: set[Path] = set()  # written, not synchronised
        self._undo: list[tuple[Path, Callable[[], None]]] = []  # the folder whose list changed, and the way back

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in _COUNTED:
            return real

        def counted(*args: Any) -> Any:
            if self.done == self.stop:
                raise Stop
            self.done += 1
            self.log.append(f"{name} {Path(args[0]).name if isinstance(args[0], (str, Path)) else ''}".strip())
            return getattr(self, f"_{name}")(*args)

        return counted

    def fail(self, how: Failure, seed: int) -> None:
        """Leaves the disk as the failure would."""
        if how == "kill":
            return
        if how == "power loss, names lost":
            for _, undo in reversed(self._undo):
                undo()
        for path in self._torn:
            if path.exists():
                content = path.read_bytes()
                path.write_bytes(content[: random.Random(seed).randrange(len(content) + 1)])

    def _open(self, path: Path, flags: int, mode: int = 0o777) -> int:
        new = bool(flags & os.O_CREAT)
        descriptor = os.open(path, flags, mode)
        self._paths[descriptor] = path
        if new:
            self._undo.append((path.parent, lambda: path.unlink(missing_ok=True)))
            self._torn.add(path)
        return descriptor

    def _write(self, descriptor: int, content: bytes) -> int:
        # a short write, as the system is free to make
        return os.write(descriptor, content[: max(1, len(content) // 2)])

    def _fsync(self, descriptor: int) -> None:
        path = self._paths[descriptor]
        self._torn.discard(path)
        self._undo = [(folder, undo) for folder, undo in self._undo if folder != path]
        os.fsync(descriptor)

    def _rename(self, old: Path, new: Path) -> None:
        os.rename(old, new)
        self._torn = {new / path.relative_to(old) if path.is_relative_to(old) else path for path in self._torn}
        self._undo.append((new.parent, lambda: os.rename(new, old)))

    def _mkdir(self, path: Path) -> None:
        os.mkdir(path)
        self._undo.append((path.parent, lambda: shutil.rmtree(path, ignore_errors=True)))

    def _unlink(self, path: Path) -> None:
        content = path.read_bytes()
        os.unlink(path)
        self._undo.append((path.parent, lambda: path.write_bytes(content)))

    def _rmdir(self, path: Path) -> None:
        os.rmdir(path)
        self._undo.append((path.parent, lambda: path.mkdir()))


class Outcome(NamedTuple):
    """What a stopped save left."""

    operation: str
    failure: Failure
    found: int | None
    """The step that a resume finds."""
    sound: bool
    """Whether it is the old or the new one, to the bit, whether the next save works, and whether no litter stays."""


def outcomes(folder: Path, save: Callable[[Path, int], None], check: Callable[[Path], int | None]) -> Iterator[Outcome]:
    """Stops a save, which also removes an old checkpoint, before each of its operations, in each way.

    Args:
        folder: Scratch space.
        save: Saves the state after a step into a folder of checkpoints, keeping two.
        check: Resumes from the folder; gives the step if the state is right to the bit, None if there is none.

    Raises:
        AssertionError: `check` found something else.
    """
    prepared = folder / "prepared"
    for step in (1, 2):
        save(prepared, step)
    with _standing_in(Disk(None)) as whole:
        save(_copy(prepared, folder / "try"), 3)
    for failure in FAILURES:
        for number in range(whole.done):
            attempt = _copy(prepared, folder / "try")
            with _standing_in(Disk(number)) as stand_in:
                try:
                    save(attempt, 3)
                except Stop:
                    stand_in.fail(failure, number)
            found = check(attempt)
            save(attempt, 4)
            names = sorted(path.name for path in attempt.iterdir())
            sound = found in (2, 3) and check(attempt) == 4 and not [name for name in names if name.startswith(".")]
            yield Outcome(whole.log[number], failure, found, sound)


@contextmanager
def _standing_in(stand_in: Disk) -> Iterator[Disk]:
    files.os = checkpoint.os = manifest.os = stand_in  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield stand_in
    finally:
        files.os = checkpoint.os = manifest.os = os


def _copy(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target

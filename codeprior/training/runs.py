"""The folder of a run: one process at a time, and one recipe from its beginning to its end.

A run that is started again must be made as it was begun: the same stage, the same optimisers, the settings that its
caller names. What may change is the number of steps and what is logged, saved or shown; a change is written to the log.
"""

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from codeprior import files
from codeprior.training.state import parts_of

LOCK = ".lock"
"""Name of the file that a running process holds, in the folder of its run."""
_MOST = 5


class FolderInUse(RuntimeError):
    """Another process trains in the folder."""


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keeps a folder for this process while the block runs; the system gives it free when the process ends, however.

    Args:
        folder: Of the run; made if needed.

    Raises:
        FolderInUse: Another process has it.
        OSError: It cannot be written.
    """
    files.make_folder(folder)
    with files.reopen(folder / LOCK) as file:
        if not _lock(file):
            file.seek(0)
            who = file.read(200).decode(errors="replace").strip()
            raise FolderInUse(
                f"train: another run is using {folder}" + (f" ({files.printable(who)})" if who else "") + "; wait for "
                "its end, stop it, or give another folder."
            )
        file.truncate(0)  # who is asked for below; on Windows the first byte is the one that is locked
        file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        file.flush()
        yield


def made(stage: Any, settings: Mapping[str, Any] | None) -> dict[str, Any]:
    """Gives what a run is made of, as JSON values: it is kept in every checkpoint.

    Args:
        stage: Fresh, before anything is restored into it.
        settings: What else must stay as it was, such as the recipe's name and its loss weights.
    """
    optimizers = {
        name: [
            {key: _plain(value) for key, value in group.items() if key != "params" and _is_plain(value)}
            for group in part.param_groups
        ]
        for name, part in parts_of(stage.saved).items()
        if hasattr(part, "param_groups")
    }
    kinds = [kind.__qualname__ for kind in type(stage).__mro__ if kind is not object and kind.__module__ != "typing"]
    facts = {"stage": kinds, "optimizers": optimizers, "settings": dict(settings or {})}
    return json.loads(json.dumps(facts, default=str))


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Says what is different, a line for each value.

    Args:
        before: As `made` gave it when the run was begun.
        now: As `made` gives it now.
    """
    old, new = (dict(_flat({k: v for k, v in one.items() if k != "stage"})) for one in (before, now))
    kinds = [list(one.get("stage", ())) for one in (before, now)]
    if not (before.get("settings") and now.get("settings")):
        # begun, or gone on with, by a caller that names none
        old, new = ({k: v for k, v in flat.items() if k.partition(".")[0] != "settings"} for flat in (old, new))
    names = [name for name in {**old, **new} if old.get(name, _ABSENT) != new.get(name, _ABSENT)]
    lines = [f"{name} was {_shown(old, name)} and is {_shown(new, name)}" for name in names]
    # a stage that was derived from the other is the same stage, watched or changed in one respect
    if all(kinds) and kinds[0][0] not in kinds[1] and kinds[1][0] not in kinds[0]:
        lines.insert(0, f"stage was {kinds[0][0]} and is {kinds[1][0]}")
    return lines[:_MOST] + ([f"and {len(lines) - _MOST} more"] if len(lines) > _MOST else [])


_ABSENT = object()


def _shown(values: Mapping[str, Any], name: str) -> str:
    return json.dumps(values[name])[:80] if name in values else "absent"


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else None
    if not pairs:
        yield name, value
        return
    for key, inner in pairs:
        yield from _flat(inner, f"{name}.{key}" if name else str(key))


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float, str, list, tuple)) or hasattr(value, "item")


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") and getattr(value, "numel", lambda: 1)() == 1 else value


def _lock(file: IO[Any]) -> bool:
    """Locks a file for this process, where the system and the disk know how; says whether nobody else had it."""
    try:
        import fcntl
    except ImportError:
        return _lock_elsewhere(file)
    try:
        # of the process, so that loader processes do not keep it when their parent is killed
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # a network disk without locks
        return True
    return True


def _lock_elsewhere(file: IO[Any]) -> bool:
    try:
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # pyright: ignore[reportAttributeAccessIssue]
    except ImportError:
        return True
    except OSError:
        return False
    return True

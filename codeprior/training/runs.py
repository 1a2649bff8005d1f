"""The folder of a run: one process at a time, and the same settings from its beginning to its end.

A run that is started again must have the same stage, the same optimisers and the same settings as at its beginning. The
number of steps may change, and what is logged, saved or shown; the log records such changes.
"""

import json
import os
import socket
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import IO, Any

from codeprior import files
from codeprior.training.state import parts_of

LOCK = ".lock"
"""Name of the file that a running process holds, in the folder of its run."""
_MOST = 5
_HOW = ("fused", "foreach", "capturable", "differentiable")
"""Options of an optimiser that choose how it computes, not what: with them a run may resume on another device."""


class FolderInUse(RuntimeError):
    """Another process trains in the folder."""


@dataclass(frozen=True)
class Settings:
    """The fields of a stage's settings, which must be the same when a run is resumed.

    A later version may add fields. A field that the run's checkpoints do not name had its default then, and is compared
    with that.

    Args:
        recipe: A dataclass; its fields may be dataclasses, mappings and JSON values.
        name: What the recipe is called.
        without: Fields that may change, such as the number of steps.
        options: Further options of the run, which are recorded and may change.
    """

    recipe: Any
    name: str
    without: Collection[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def values(self) -> dict[str, Any]:
        """Gives the settings as JSON values by field, and the recipe's name under `recipe`."""
        names = [one.name for one in fields(self.recipe) if one.name not in self.without]
        return {"recipe": self.name} | {name: _json(getattr(self.recipe, name)) for name in names}

    def write(self, folder: Path) -> None:
        """Writes all settings of the run into `configuration.json`, from which it can be started again.

        Args:
            folder: Of the run.
        """
        whole = {one.name: _json(getattr(self.recipe, one.name)) for one in fields(self.recipe)}
        text = json.dumps(
            {"recipe": self.name, "settings": whole, "options": dict(self.options)}, indent=2, default=str
        )
        files.write(folder / "configuration.json", text + "\n", overwrite=True)

    def completed(self, recorded: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Gives recorded settings with the defaults of the fields that they lack, and the dotted names of those.

        Args:
            recorded: As `values` gave it, then or in an earlier version.
        """
        return _completed(recorded, self.recipe, without=self.without)


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Locks a folder for this process while the block runs; the system frees it when the process ends in any way.

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


def made(stage: Any, settings: Mapping[str, Any] | Settings | None) -> dict[str, Any]:
    """Gives stage, optimisers and settings of a run as JSON values, which every checkpoint holds.

    Args:
        stage: Fresh, before anything is restored into it.
        settings: What else must stay as it was, such as the recipe's name and its loss weights.
    """
    optimizers = {
        name: [
            {key: _plain(value) for key, value in group.items() if key not in ("params", *_HOW) and _is_plain(value)}
            for group in part.param_groups
        ]
        for name, part in parts_of(stage.saved).items()
        if hasattr(part, "param_groups")
    }
    kinds = [kind.__qualname__ for kind in type(stage).__mro__ if kind is not object and kind.__module__ != "typing"]
    values = settings.values() if isinstance(settings, Settings) else dict(settings or {})
    facts = {"stage": kinds, "optimizers": optimizers, "settings": values}
    return json.loads(json.dumps(facts, default=str))


def differences(before: Mapping[str, Any], now: Mapping[str, Any], settings: Any = None) -> list[str]:
    """Says what is different, a line for each value.

    Args:
        before: As `made` gave it when the run was begun.
        now: As `made` gives it now.
        settings: What `made` was given now. Where it is `Settings`, fields that the recipe has gained since count as
            their defaults.
    """
    gained: tuple[str, ...] = ()
    if isinstance(settings, Settings) and before.get("settings"):
        values, gained = settings.completed(before["settings"])
        before = {**before, "settings": json.loads(json.dumps(values, default=str))}
    before, now = ({**one, "optimizers": _what(one.get("optimizers", {}))} for one in (before, now))
    old, new = (dict(_flat({k: v for k, v in one.items() if k != "stage"})) for one in (before, now))
    kinds = [list(one.get("stage", ())) for one in (before, now)]
    if not (before.get("settings") and now.get("settings")):
        # begun, or gone on with, by a caller that names none
        old, new = ({k: v for k, v in flat.items() if k.partition(".")[0] != "settings"} for flat in (old, new))
    names = [name for name in {**old, **new} if old.get(name, _ABSENT) != new.get(name, _ABSENT)]
    unrecorded = tuple(f"settings.{name}." for name in gained)
    lines = [
        f"{name} was {_shown(old, name)}{' (not recorded, so its default)' * f'{name}.'.startswith(unrecorded)} "
        f"and is {_shown(new, name)}"
        for name in names
    ]
    # a stage whose class derives from the other's counts as the same stage
    if all(kinds) and kinds[0][0] not in kinds[1] and kinds[1][0] not in kinds[0]:
        lines.insert(0, f"stage was {kinds[0][0]} and is {kinds[1][0]}")
    return lines[:_MOST] + ([f"and {len(lines) - _MOST} more"] if len(lines) > _MOST else [])


_ABSENT = object()


def _what(optimizers: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: [{k: v for k, v in one.items() if k not in _HOW} for one in many] for name, many in optimizers.items()
    }


def _json(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return dict(value) if isinstance(value, Mapping) else value


def _completed(recorded: Mapping[str, Any], recipe: Any, *, without: Collection[str] = ()) -> tuple[dict, tuple]:
    found, gained = dict(recorded), []
    for one in fields(recipe):
        name, value = one.name, getattr(recipe, one.name)
        if name in without:
            continue
        if name in found:
            # a mapping, such as the loss weights, was recorded whole; only a dataclass can have gained fields
            if is_dataclass(value) and isinstance(found[name], Mapping):
                found[name], inner = _completed(found[name], value)
                gained += [f"{name}.{part}" for part in inner]
        elif one.default is not MISSING or one.default_factory is not MISSING:
            default = one.default if one.default_factory is MISSING else one.default_factory()
            found[name] = _json(default)
            gained.append(name)
    return found, tuple(gained)


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
        # a lock of the process, so that loader processes do not hold it when their parent is killed
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

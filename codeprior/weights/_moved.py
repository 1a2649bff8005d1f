"""Names that have moved; the old ones work for one release and say so."""

import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any


def moved(
    old: str, new: str, names: tuple[str, ...] = (), *, renamed: Mapping[str, str] = MappingProxyType({})
) -> Callable[[str], Any]:
    """Gives a module's `__getattr__` that looks a name up where it is now, with a DeprecationWarning.

    Args:
        old: Dotted name of the module.
        new: Dotted name of the module that has the names now.
        names: Which names have moved; all of them by default.
        renamed: Those that are called differently now, and how.
    """

    def look_up(name: str) -> Any:
        if name.startswith("__") or (names and name not in names):
            raise AttributeError(f"module {old!r} has no attribute {name!r}")
        today = renamed.get(name, name)
        value = getattr(import_module(new), today)
        warnings.warn(f"{old}.{name} has moved to {new}.{today}", DeprecationWarning, stacklevel=2)
        return value

    return look_up

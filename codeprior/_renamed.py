"""Former names of packages, modules and what is in them: they give what is meant today, never a second copy."""

import sys
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, spec_from_loader
from types import MappingProxyType, ModuleType
from typing import Any

_AS_IT_WAS: Mapping[str, str] = MappingProxyType({})


def stand_for(old: str, new: str) -> None:
    """Lets modules of a package be imported, and run with `python -m`, under a former name of the package.

    Args:
        old: The former name.
        new: The name of today.
    """
    if not any(isinstance(finder, _Finder) and finder.old == old for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder(old, new))


def former_module(old: str, new: str, *, renamed: Mapping[str, str] = _AS_IT_WAS) -> None:
    """Lets a module be imported under a former name for one release; each name taken from it warns of the new place.

    Args:
        old: The former name, inside a package that is being imported.
        new: Dotted name of the module that has the names now; it is imported when one is asked for.
        renamed: Names that are called differently now, and how.
    """
    package, _, name = old.rpartition(".")
    module = ModuleType(old, f"Moved to `{new}`; this name works for one release.")
    module.__spec__, module.__package__ = ModuleSpec(old, None), package
    vars(module)["__getattr__"] = moved(old, new, renamed=renamed)
    sys.modules[old] = module
    # a function may have the name of the module in which it stood
    vars(sys.modules[package]).setdefault(name, module)


def moved(
    old: str, new: str, names: tuple[str, ...] = (), *, renamed: Mapping[str, str] = _AS_IT_WAS
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


class _Finder(MetaPathFinder):
    def __init__(self, old: str, new: str):
        self.old, self.new = f"{old}.", f"{new}."

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if not fullname.startswith(self.old):
            return None
        today = find_spec(self.new + fullname.removeprefix(self.old))
        if today is None:
            return None
        spec = spec_from_loader(fullname, _Alias(today), origin=today.origin)
        if spec is not None:
            spec.submodule_search_locations = today.submodule_search_locations
        return spec


class _Alias(Loader):
    def __init__(self, today: ModuleSpec):
        self.today = today

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return import_module(self.today.name)

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.today  # importing has put the former name there

    def get_code(self, fullname: str) -> Any:
        loader: Any = self.today.loader
        return loader.get_code(self.today.name)

"""A package under its former name: what is imported from it are the modules of the new one, never a second copy."""

import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, spec_from_loader
from types import ModuleType
from typing import Any


def stand_for(old: str, new: str) -> None:
    """Lets modules of a package be imported, and run with `python -m`, under a former name of the package.

    Args:
        old: The former name.
        new: The name of today.
    """
    if not any(isinstance(finder, _Finder) and finder.old == old for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder(old, new))


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

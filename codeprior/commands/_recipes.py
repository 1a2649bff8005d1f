"""Recipes by name: the one place from which a command reaches the code under `examples/`."""

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any

RECIPES = ("daefr", "codeformer", "vqfr", "restoreformer", "gpen", "lcqs")


def recipe(name: str) -> Any:
    """Imports a recipe's package: `codeprior.recipes.NAME`, or `examples.NAME` in a clone that is not installed.

    Args:
        name: One of `RECIPES`.

    Raises:
        ValueError: There is no such recipe, or it is not installed.
    """
    if name not in RECIPES:
        raise ValueError(f"recipe: no recipe is named {name!r}; choose one of {', '.join(RECIPES)}.")
    # importing the same files under a second name would define their classes twice
    packages = sorted((f"codeprior.recipes.{name}", f"examples.{name}"), key=lambda package: package not in sys.modules)
    for package in packages:
        try:
            if find_spec(package):
                return import_module(package)
        except ModuleNotFoundError as error:
            if not (error.name and package.startswith(error.name)):
                raise
    raise ValueError(f"recipe: {name} is not installed; install codeprior, or run from the root of its repository.")

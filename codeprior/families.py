"""What a model family is, and finding those that are there.

A family is a package of `codeprior.recipes` whose `__init__` gives a `FAMILY`: how its weights become a model that
restores, whose checkpoints it reads, what a user may choose, which files are published and under which licence.
Families are not listed anywhere: every such package that is installed is found.
"""

import ast
import functools
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:  # the command line lists families in its help, which is there without torch
    from torch import Tensor, nn

__all__ = [
    "Converted", "Family", "Layout", "Option", "Published", "State", "family_names", "family_of", "find_family",
    "installed_families",
]  # fmt: skip

State = Mapping[str, "Tensor"]
"""Tensors by the names that they have in a checkpoint file."""
_HOME = "codeprior.recipes"


class Published(NamedTuple):
    """A weights file that somebody publishes.

    Attributes:
        name: Its name for `codeprior download`: small letters, digits and hyphens.
        url: Where it is.
        sha256: What its SHA-256 must be, 64 hexadecimal digits; empty where its publisher gives none and nobody is
            known to have recorded it, so that a download cannot be verified.
        licence: Of the weights, as their publisher says it.
        size: Bytes; 0 where it is not known.
        text: What it is.
    """

    name: str
    url: str
    sha256: str
    licence: str
    size: int = 0
    text: str = ""

    def described(self) -> str:
        """Gives text, size and licence in one line."""
        size = f"{self.size / 2**20:.1f} MiB" if self.size else ""
        return "; ".join(part for part in (self.text, size, self.licence) if part)


@dataclass(frozen=True)
class Option:
    """A value that a user may set each time a model restores.

    Attributes:
        type: `float`, `int`, `bool` or `str`.
        default: Its value where the user sets none.
        low: Least value, of numbers.
        high: Greatest value, of numbers.
        text: What its values mean, for help and documentation.
    """

    type: type
    default: Any
    low: float | None = None
    high: float | None = None
    text: str = ""

    def check(self, name: str, value: Any) -> Any:
        """Gives a value of the option's type.

        Args:
            name: Of the option, for the error.
            value: A value, a text that stands for one, or, of a number, a tensor with one value per face or more.

        Raises:
            ValueError: It is not of the type, or out of range.
        """
        if self.type is float and getattr(value, "ndim", 0):
            return self._in_range(name, value.float(), float(value.min()), float(value.max()))
        try:
            if self.type is bool:
                value = {"true": True, "false": False}[str(value).lower()]
            else:
                value = self.type(value)
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"option {name}: expected {self.described()}, got {value!r}.") from None
        return self._in_range(name, value, value, value) if self.type in (float, int) else value

    def described(self) -> str:
        """Gives type and range in words."""
        words = {float: "a number", int: "a whole number", bool: "true or false", str: "a word"}
        limits = "" if self.low is None or self.high is None else f" from {_plain(self.low)} to {_plain(self.high)}"
        return words.get(self.type, self.type.__name__) + limits

    def _in_range(self, name: str, value: Any, least: float, most: float) -> Any:
        low = float("-inf") if self.low is None else self.low
        high = float("inf") if self.high is None else self.high
        if not (low <= least and most <= high):  # nan is in no range
            got = _plain(least if least < low else most)
            raise ValueError(f"option {name}: expected {self.described()}, got {got}.")
        return value


def _plain(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


class Converted(NamedTuple):
    """The modules that a checkpoint was converted to.

    Attributes:
        modules: Our modules, filled, by part; the one that restores is named `restorer`, a whole prior `vqgan`.
        dropped: Keys that were not kept, each with the reason.
        stage: Which stage of training wrote it, where the family has several.
    """

    modules: "dict[str, nn.Module]"
    dropped: dict[str, str]
    stage: str = ""


@dataclass(frozen=True)
class Layout:
    """How checkpoints of one origin name their tensors.

    Attributes:
        name: Of the origin.
        detect: Says by the keys whether a state dict is of this layout.
        convert: Builds our modules at the sizes that the shapes give, and keeps or drops every key with a reason.
            Called with the state dict, and with `variant=` where the user says which of `variants` it is.
        variants: Models whose tensors have the same names, so that only the user can say which one a file holds.
    """

    name: str
    detect: Callable[[State], bool]
    convert: Callable[..., Converted]
    variants: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Family:
    """A model family: what commands, exports and integrations need to know so that they work for every family.

    Attributes:
        name: Of its package.
        load: Gives the model that a weights file holds; it restores: `size`, `scale`, `stride` and
            `restore(signed, **options)`. Called as `load(path, device=…)`.
        text: What it is, in one line.
        layouts: Whose checkpoints it reads.
        stages: Its stages of training: name to the address of the stage, `package.module:Class`, called with its
            settings first. An address, so that restoring does not import the training.
        tasks: What its models do besides restoring, on aligned faces: name to the address of a function. It is called
            with the model, the face `H W 3` in 8-bit levels, and a mask `H W` or None, and gives the new face.
        options: What `restore` takes besides the face.
        published: Weights that others publish.
        embedded: Weights that the package holds, by name.
        licence: Of the embedded weights.
    """

    name: str
    load: "Callable[..., nn.Module]"
    text: str = ""
    layouts: tuple[Layout, ...] = ()
    stages: Mapping[str, str] = field(default_factory=dict)
    tasks: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Option] = field(default_factory=dict)
    published: tuple[Published, ...] = ()
    embedded: Mapping[str, Path] = field(default_factory=dict)
    licence: str = ""

    def stage(self, name: str) -> Any:
        """Gives a stage's class.

        Args:
            name: One of `stages`.

        Raises:
            ValueError: There is no such stage.
        """
        if name not in self.stages:
            raise ValueError(f"{self.name} has no stage {name!r}; choose {', '.join(self.stages) or 'another family'}.")
        return pkgutil.resolve_name(self.stages[name])


def family_names() -> tuple[str, ...]:
    """Gives the names of the families that are installed, sorted; none of them is imported.

    Example:
        >>> "daefr" in family_names()
        True
    """
    home = import_module(_HOME)
    return tuple(sorted(module.name for module in pkgutil.iter_modules(home.__path__) if _gives_a_family(module)))


def find_family(name: str) -> Family:
    """Gives an installed family.

    Args:
        name: Of its package.

    Raises:
        ValueError: No family of that name is installed.
    """
    there = family_names()
    if name not in there:
        raise ValueError(f"no model family is named {name!r}; installed are {', '.join(there) or 'none'}.")
    family = import_module(f"{_HOME}.{name}").FAMILY
    if not isinstance(family, Family) or family.name != name:
        raise TypeError(f"{_HOME}.{name}.FAMILY is not the Family of that name: {family!r}.")
    return family


def installed_families() -> tuple[Family, ...]:
    """Gives every installed family, by name; imports their packages."""
    return tuple(find_family(name) for name in family_names())


def family_of(module: "nn.Module | type") -> str | None:
    """Gives the name of the family whose package defines a module or a part of it; None for blocks of the library.

    Args:
        module: Any module, or a class.
    """
    for kind in [module] if isinstance(module, type) else map(type, module.modules()):
        home, found, rest = kind.__module__.partition(f"{_HOME}.")
        if found and not home and rest.partition(".")[0] in family_names():
            return rest.partition(".")[0]
    return None


def _gives_a_family(module: pkgutil.ModuleInfo) -> bool:
    folder = getattr(module.module_finder, "path", None)
    return module.ispkg and folder is not None and _assigns_family(str(Path(folder) / module.name / "__init__.py"))


@functools.cache
def _assigns_family(path: str) -> bool:
    """Says whether a package's text gives a FAMILY: a command's help lists families without importing torch."""
    for node in ast.parse(Path(path).read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == "FAMILY" for target in targets):
            return True
        if isinstance(node, ast.ImportFrom) and any("FAMILY" in (a.name, a.asname) for a in node.names):
            return True
    return False

"""Modules that remember their constructor arguments, so that a weights file can say how to build them.

`@configured` records the arguments of `__init__` under `module.config`: JSON values as they are, modules by their own
record. `build(config)` builds the module again. Names are looked up in a table of decorated classes; a file never
decides what is imported.
"""

import functools
import inspect
import pkgutil
from collections.abc import Mapping
from typing import Any, TypeVar

from torch import nn

Module = TypeVar("Module", bound=nn.Module)
_CLASSES: dict[str, type[nn.Module]] = {}


def configured(cls: type[Module]) -> type[Module]:
    """Makes instances of a module class remember how they were built.

    Args:
        cls: A module class whose arguments are JSON values, tuples, or modules that are themselves configured.

    Returns:
        The same class; its instances carry `config`, a dictionary `{"class": name, **arguments}`. It gains the methods
        `from_pretrained`, `save_pretrained` and `push_to_hub` of `codeprior.hub`.

    Raises:
        ValueError: Another class of that name is configured already.
    """
    known = _CLASSES.get(cls.__name__, cls)
    if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(f"configured: {cls.__name__} names {known.__module__} already; choose another class name.")
    _CLASSES[cls.__name__] = cls  # a cell of a notebook that is run again defines its class anew
    constructor = cls.__init__
    signature = inspect.signature(constructor)

    @functools.wraps(constructor)
    def remember(self: Any, *args: Any, **kwargs: Any) -> None:
        constructor(self, *args, **kwargs)
        if type(self) is not cls:
            return
        given = signature.bind(self, *args, **kwargs)
        given.apply_defaults()
        arguments = dict(list(given.arguments.items())[1:])
        object.__setattr__(self, "config", {"class": cls.__name__} | {k: _plain(k, v) for k, v in arguments.items()})

    cls.__init__ = remember  # pyright: ignore[reportAttributeAccessIssue]
    for name, method in _HUB.items():
        setattr(cls, name, method)
    return cls


def build(config: Mapping[str, Any]) -> nn.Module:
    """Builds the module that a `config` describes, with fresh weights.

    Args:
        config: What a configured module carries as `config`.

    Raises:
        ValueError: The class is not known here, or does not take the arguments.
    """
    config = dict(config)
    name = config.pop("class", None)
    if name not in _CLASSES:
        raise ValueError(
            f"build: no module class named {name!r} is known; known are {', '.join(sorted(_CLASSES))}. "
            "Import the package that defines it before loading."
        )
    arguments = {key: build(value) if _describes_module(value) else value for key, value in config.items()}
    try:
        return _CLASSES[name](**arguments)
    except TypeError as error:
        raise ValueError(f"build: {name} does not take these arguments: {error}.") from error


# the hub stands above this room: its functions are found by address, when they are called
def _save_pretrained(self: nn.Module, folder: Any, **options: Any) -> Any:
    """Writes the module into a folder; see `codeprior.hub.save_pretrained`."""
    return pkgutil.resolve_name("codeprior.hub:save_pretrained")(self, folder, **options)


def _push_to_hub(self: nn.Module, repository: str, **options: Any) -> str:
    """Writes the module to a repository of the hub; see `codeprior.hub.push_to_hub`."""
    return pkgutil.resolve_name("codeprior.hub:push_to_hub")(self, repository, **options)


def _from_pretrained(cls: type[nn.Module], name: Any, **options: Any) -> nn.Module:
    """Gives the module of a folder or a repository; see `codeprior.hub.from_pretrained`."""
    module = pkgutil.resolve_name("codeprior.hub:from_pretrained")(name, **options)
    if not isinstance(module, cls):
        raise ValueError(f"{cls.__name__}.from_pretrained: {name} holds a {type(module).__name__}.")
    return module


_HUB = {
    "save_pretrained": _save_pretrained, "push_to_hub": _push_to_hub, "from_pretrained": classmethod(_from_pretrained),
}  # fmt: skip


def configured_class(name: str) -> type[nn.Module] | None:
    """Gives the configured class of a name, or None where none of that name has been imported.

    Args:
        name: Of the class.
    """
    return _CLASSES.get(name)


def _describes_module(value: Any) -> bool:
    return isinstance(value, Mapping) and "class" in value


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, nn.Module):
        if not hasattr(value, "config"):
            raise TypeError(f"configured: argument {name} is a {type(value).__name__}, which is not configured itself.")
        return value.config
    if isinstance(value, (list, tuple)):
        return [_plain(name, item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(name, item) for key, item in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"configured: argument {name} is a {type(value).__name__}; only JSON values and modules are kept.")

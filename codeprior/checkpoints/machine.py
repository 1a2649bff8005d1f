"""The stack of the pickle reader, what it holds, and the few names that mean something in a checkpoint.

Nothing is looked up and nothing is called: a tensor becomes a record of where it lies, a container a dictionary, every
other name an inert stub.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

_MAX_KEY = 2**61 - 1  # larger integers can be made to collide in a dictionary
_MAX_NAME = 500
MAX_WORK = 20_000_000  # items and pieces of text that are copied or compared; a checkpoint of 100,000 tensors needs 5 %
_TEXT = 64  # letters of text that count as one item
_MODULES = ("collections", "builtins", "__builtin__")
_CONTAINERS = ("OrderedDict", "defaultdict", "Counter", "dict")


class Refused(ValueError):
    """The pickle does what no checkpoint does; the text says what, without the file's name."""


class Name(NamedTuple):
    """A class or function that the pickle names; never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"[:200]


class Stub(NamedTuple):
    """Where an object of an unknown class stood."""

    name: str


class Storage(NamedTuple):
    """Bytes that tensors share: a member of the archive."""

    dtype: str
    key: str
    elements: int


class Record(NamedTuple):
    """A tensor: a view of a storage, in elements of `dtype`."""

    storage: Storage
    dtype: str
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class Mark:
    pass


MARK = Mark()


class Machine:
    def __init__(self):
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.stubs: Counter[str] = Counter()
        self.storages: dict[str, Storage] = {}
        self.dropped_keys = 0
        self.work = 0

    def spend(self, items: int) -> None:
        """Counts what an opcode copies or compares, which may be far more than the opcode itself."""
        self.work += items
        if self.work > MAX_WORK:
            raise Refused(f"the pickle copies more than {MAX_WORK:,} items")

    def named(self, module: str, name: str) -> Name:
        """Gives a name of ordinary length."""
        if len(module) > _MAX_NAME or len(name) > _MAX_NAME:
            raise Refused(f"the pickle names something by more than {_MAX_NAME} letters")
        return Name(module, name)

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is MARK:
            raise IndexError
        return value

    def since_mark(self) -> list[Any]:
        for place in range(len(self.stack) - 1, -1, -1):
            if self.stack[place] is MARK:
                self.spend(len(self.stack) - place)
                items = self.stack[place + 1 :]
                del self.stack[place:]
                return items
        raise IndexError

    def stub(self, what: Any) -> Stub:
        name = str(what) if isinstance(what, Name) else type(what).__name__
        self.stubs[name] += 1
        return Stub(name)

    def put(self, target: Any, items: list[Any]) -> None:
        if len(items) % 2:
            raise Refused("the pickle sets a key without a value")
        if isinstance(target, Stub):
            return
        if not isinstance(target, dict):
            raise Refused(f"the pickle sets keys of a {type(target).__name__}")
        self.spend(len(items))
        for key, value in zip(items[::2], items[1::2], strict=True):
            if isinstance(key, (str, bytes)):
                self.spend(len(key) // _TEXT)
            if isinstance(key, (str, bytes, bool, type(None))) or (type(key) is int and abs(key) < _MAX_KEY):
                target[key] = value
            else:
                self.dropped_keys += 1

    def extend(self, target: Any, items: list[Any]) -> None:
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Stub):
            raise Refused(f"the pickle appends to a {type(target).__name__}")

    def call(self, function: Any, arguments: Any) -> Any:
        name = f"{function.module} {function.name}" if isinstance(function, Name) else ""
        if name in CALLS and isinstance(arguments, tuple):
            return CALLS[name](self, arguments)
        return self.stub(function)


def _tensor(machine: Machine, arguments: tuple) -> Any:
    storage, offset, size, stride, *rest = arguments
    if not isinstance(storage, Storage):
        raise Refused("the pickle builds a tensor on something that is no storage")
    dtype = storage.dtype
    if len(rest) >= 3 and isinstance(rest[2], Name) and rest[2].module == "torch":
        dtype = rest[2].name  # _rebuild_tensor_v3 states the type, its storage is untyped
    machine.spend(len(size) + len(stride))
    numbers = [offset, *size, *stride]
    if any(type(number) is not int for number in numbers):
        raise Refused("the pickle gives a tensor sizes that are no integers")
    return Record(storage, dtype, offset, tuple(size), tuple(stride))


def _parameter(machine: Machine, arguments: tuple) -> Any:
    return (
        arguments[0] if isinstance(arguments[0], Record) else machine.stub(Name("torch._utils", "_rebuild_parameter"))
    )


def _container(machine: Machine, arguments: tuple) -> dict:
    container: dict[Any, Any] = {}
    given = arguments[-1] if arguments else None
    machine.spend(len(given) if isinstance(given, (dict, list, tuple)) else 1)
    if isinstance(given, dict):
        container.update(given)
    elif isinstance(given, (list, tuple)):
        for pair in given:
            if isinstance(pair, (list, tuple)) and len(pair) == 2:
                machine.put(container, list(pair))
    return container


def _size(machine: Machine, arguments: tuple) -> Any:
    given = arguments[0] if arguments else None
    machine.spend(len(given) if isinstance(given, (list, tuple)) else 1)
    return tuple(given) if isinstance(given, (list, tuple)) else machine.stub(Name("torch", "Size"))


CALLS: dict[str, Callable[[Machine, tuple], Any]] = {
    "torch._utils _rebuild_tensor": _tensor,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_tensor_v3": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
    "torch._utils _rebuild_parameter_with_state": _parameter,
    "torch Size": _size,
} | {f"{module} {name}": _container for module in _MODULES for name in _CONTAINERS}

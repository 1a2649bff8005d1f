"""What each opcode of a pickle does to the stack; an opcode that is not here is refused."""

from collections.abc import Callable
from typing import Any

from codeprior.checkpoints.machine import CALLS, MARK, Machine, Name, Refused, Storage, Stub

_MAX_BITS = 4096
_DTYPES = {
    "FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool", "UntypedStorage": "uint8", "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
}  # fmt: skip


def _push(value: Any) -> Callable[[Machine, Any], None]:
    return lambda machine, _: machine.stack.append(value)


def _push_argument(machine: Machine, argument: Any) -> None:
    if isinstance(argument, int) and argument.bit_length() > _MAX_BITS:
        raise Refused(f"the pickle has an integer of {argument.bit_length():,} bits")
    machine.stack.append(argument)


def _top(machine: Machine) -> Any:
    if machine.stack[-1] is MARK:
        raise IndexError
    return machine.stack[-1]


def _global(machine: Machine, argument: Any) -> None:
    module, _, name = argument.partition(" ")
    machine.stack.append(machine.named(module, name))


def _stack_global(machine: Machine, _: Any) -> None:
    name, module = machine.pop(), machine.pop()
    if not isinstance(name, str) or not isinstance(module, str):
        raise Refused("the pickle names a class by something that is no text")
    machine.stack.append(machine.named(module, name))


def _reduce(machine: Machine, _: Any) -> None:
    arguments, function = machine.pop(), machine.pop()
    machine.stack.append(machine.call(function, arguments))


def _new_object(machine: Machine, argument: Any) -> None:
    arguments, kind = machine.pop(), machine.pop()
    plain = isinstance(kind, Name) and f"{kind.module} {kind.name}" in CALLS
    machine.stack.append(machine.call(kind, arguments) if plain else machine.stub(kind))


def _new_object_keywords(machine: Machine, _: Any) -> None:
    machine.pop()
    machine.pop()
    machine.stack.append(machine.stub(machine.pop()))


def _object(machine: Machine, _: Any) -> None:
    items = machine.since_mark()
    machine.stack.append(machine.stub(items[0]))


def _instance(machine: Machine, argument: Any) -> None:
    machine.since_mark()
    machine.stack.append(machine.stub(machine.named(*argument.split(" ", 1))))


def _persistent(machine: Machine, _: Any) -> None:
    given = machine.pop()
    if not (isinstance(given, tuple) and len(given) in (5, 6) and given[0] == "storage"):
        raise Refused("the pickle refers to something outside that is no storage")
    _, kind, key, _, elements, *view = given  # files from before PyTorch 1.6 also give the place of a view
    if view not in ([], [None]):
        raise Refused("the pickle has a storage that is part of another")
    if not isinstance(kind, Name) or kind.module not in ("torch", "torch.storage", "torch.cuda"):
        raise Refused("the pickle has a storage of an unknown class")
    if kind.name not in _DTYPES or not isinstance(key, str) or type(elements) is not int or elements < 0:
        raise Refused(f"the pickle has a storage that cannot be read ({str(kind)[:60]})")
    storage = Storage(_DTYPES[kind.name], key, elements)
    if machine.storages.setdefault(key, storage) != storage:
        raise Refused("the pickle states one storage in two ways")
    machine.stack.append(storage)


def _set_item(machine: Machine, _: Any) -> None:
    value, key = machine.pop(), machine.pop()
    machine.put(_top(machine), [key, value])


def _set_items(machine: Machine, _: Any) -> None:
    items = machine.since_mark()
    machine.put(_top(machine), items)


def _dict(machine: Machine, _: Any) -> None:
    items, made = machine.since_mark(), {}
    machine.put(made, items)
    machine.stack.append(made)


def _append(machine: Machine, _: Any) -> None:
    value = machine.pop()
    machine.extend(_top(machine), [value])


def _appends(machine: Machine, _: Any) -> None:
    items = machine.since_mark()
    machine.extend(_top(machine), items)


def _tuple(count: int) -> Callable[[Machine, Any], None]:
    def act(machine: Machine, _: Any) -> None:
        items = [machine.pop() for _ in range(count)]
        machine.stack.append(tuple(reversed(items)))

    return act


def _add_items(machine: Machine, _: Any) -> None:
    machine.since_mark()  # sets hold no weights; their members are not hashed
    if not isinstance(_top(machine), Stub):
        raise Refused("the pickle adds members to something that is no set")


def _store(machine: Machine, argument: Any) -> None:
    machine.memo[int(argument)] = _top(machine)


ACTIONS: dict[str, Callable[[Machine, Any], None]] = {
    "PROTO": lambda machine, _: None,
    "FRAME": lambda machine, _: None,
    "NONE": _push(None),
    "NEWTRUE": _push(True),
    "NEWFALSE": _push(False),
    "MARK": _push(MARK),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "EMPTY_TUPLE": _push(()),
    "EMPTY_SET": lambda machine, _: machine.stack.append(Stub("set")),
    "LIST": lambda machine, _: machine.stack.append(machine.since_mark()),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.since_mark())),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "DICT": _dict,
    "APPEND": _append,
    "APPENDS": _appends,
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    "ADDITEMS": _add_items,
    "FROZENSET": lambda machine, _: machine.stack.append(Stub(f"frozenset of {len(machine.since_mark())}")),
    "POP": lambda machine, _: machine.stack.pop(),
    "POPMARK": lambda machine, _: machine.since_mark(),
    "DUP": lambda machine, _: machine.stack.append(_top(machine)),
    "MEMOIZE": lambda machine, _: machine.memo.__setitem__(len(machine.memo), _top(machine)),
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "NEWOBJ": _new_object,
    "NEWOBJ_EX": _new_object_keywords,
    "OBJ": _object,
    "INST": _instance,
    "BINPERSID": _persistent,
    # state is never set: the items of a dictionary came by SETITEMS, and the state of a stub is dropped with it
    "BUILD": lambda machine, _: machine.pop() and None,
} | dict.fromkeys(
    [
        "INT", "LONG", "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING",
        "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
        "BINBYTES8", "BYTEARRAY8",
    ],
    _push_argument,
) | dict.fromkeys(["PUT", "BINPUT", "LONG_BINPUT"], _store) | dict.fromkeys(
    ["GET", "BINGET", "LONG_BINGET"], lambda machine, argument: machine.stack.append(machine.memo[int(argument)])
)  # fmt: skip

"""A pickle read without being run: a machine for its opcodes that imports nothing and calls nothing.

Foreign checkpoints are pickles, and a pickle is a program. This machine knows what the opcodes of a checkpoint mean;
three names (`_rebuild_tensor_v2` and kin) become records of where a tensor lies, containers become dictionaries, and
every other name becomes an inert stub that is counted and dropped. First step of reading a foreign checkpoint; the
records are checked and filled in `codeprior.checkpoints.checkpoint`.
"""

import pickletools
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from typing import Any, BinaryIO, NamedTuple

from codeprior.checkpoints.machine import MARK, Machine, Refused, Storage
from codeprior.checkpoints.opcodes import ACTIONS

MAX_OPCODES = 2_000_000


class Unpickled(NamedTuple):
    """What a pickle holds.

    Attributes:
        value: Dictionaries, lists, tuples, scalars, `Record`, `Name` and `Stub`.
        stubs: How often each unknown name was used.
        dropped_keys: Entries of dictionaries whose key was no plain scalar.
        storages: Every storage that is mentioned, by its key.
    """

    value: Any
    stubs: Counter[str]
    dropped_keys: int
    storages: dict[str, Storage]


def unpickle(content: bytes | BinaryIO, *, opcodes: int = MAX_OPCODES) -> Unpickled:
    """Reads one pickle.

    Args:
        content: The pickle, nothing behind it; or a file that stands at its beginning, and then stands behind its end.
        opcodes: The most opcodes that are read.

    Raises:
        Refused: It is no complete pickle, too long, or uses what no checkpoint uses: extension codes, buffers outside,
            text ids, unhashable or colliding keys.
    """
    machine = Machine()
    stream = BytesIO(content) if isinstance(content, bytes) else content
    steps = _steps(stream)
    for number, (name, argument) in enumerate(steps):
        if number >= opcodes:
            raise Refused(f"the pickle has more than {opcodes:,} opcodes")
        if name == "STOP":
            break
        act = ACTIONS.get(name)
        if act is None:
            raise Refused(f"the pickle uses the opcode {name}, which no checkpoint needs")
        try:
            act(machine, argument)
        except Refused:
            raise
        except (ValueError, IndexError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise Refused(
                f"the pickle's opcode {name} does not fit what came before ({type(error).__name__})"
            ) from None
    if isinstance(content, bytes) and stream.tell() != len(content):
        raise Refused("bytes follow the end of the pickle")
    if len(machine.stack) != 1 or machine.stack[0] is MARK:
        raise Refused("the pickle does not end with one value")
    return Unpickled(machine.stack[0], machine.stubs, machine.dropped_keys, machine.storages)


def _steps(stream: BinaryIO) -> Iterator[tuple[str, Any]]:
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            yield opcode.name, argument
    except (ValueError, IndexError, OverflowError, UnicodeError, MemoryError) as error:
        raise Refused(f"the pickle is damaged: {str(error)[:120] or type(error).__name__}") from None

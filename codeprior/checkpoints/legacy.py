"""Checkpoints from before torch 1.6: five pickles in a row, then for each storage its size and its bytes.

The weights of many published feature networks are such files. The pickles are read by the same interpreter as those of
an archive, which runs no code.
"""

import os
import struct
from collections.abc import Mapping
from typing import BinaryIO, cast

import torch
from torch import Tensor

from codeprior.checkpoints.archive import grouped, view
from codeprior.checkpoints.machine import Record, Refused, Storage
from codeprior.checkpoints.unpickle import Unpickled, unpickle

MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_PROTOCOL = 1001
_MAX_PICKLES = 64 * 2**20
_SMALL = 10_000  # opcodes of the pickles around the weights


def read_pickles(file: BinaryIO) -> tuple[Unpickled, list[str]]:
    """Reads the pickles.

    Args:
        file: Open; it then stands at the first storage.

    Returns:
        What the file holds, and the names of its storages in the order of their bytes.

    Raises:
        Refused: It is no such file, or one from a machine of another byte order.
    """
    file.seek(len(MAGIC))
    stream = cast(BinaryIO, _Beginning(file))
    if unpickle(stream, opcodes=_SMALL).value != _PROTOCOL:
        raise Refused("is in torch's format from before 1.6, of an unknown protocol")
    system = unpickle(stream, opcodes=_SMALL).value
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise Refused("was written on a machine of another byte order")
    found = unpickle(stream)
    keys = unpickle(stream).value
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or len(set(keys)) != len(keys):
        raise Refused("is damaged: the names of its storages are no list of texts")
    return found, keys


class _Beginning:
    """The beginning of a file, where its pickles are: a text in them may claim the gigabytes behind."""

    def __init__(self, file: BinaryIO):
        self._file, self.tell = file, file.tell

    def read(self, size: int) -> bytes:
        if self._file.tell() + size > _MAX_PICKLES:
            raise Refused(f"has pickles of more than {_MAX_PICKLES:,} bytes")
        return self._file.read(size)

    def readline(self) -> bytes:
        return self._file.readline(_MAX_PICKLES)


def filled(
    file: BinaryIO, keys: list[str], state: Mapping[str, Record], stated: Mapping[str, Storage]
) -> dict[str, Tensor]:
    """Gives the tensors that the records describe.

    Args:
        file: Open, at the first storage.
        keys: Names of the storages in the order of their bytes.
        state: Records by name.
        stated: All storages that the pickle mentions, by key.

    Raises:
        Refused: A record reaches outside its storage, a storage has not the size that is stated, or bytes are missing.
    """
    size = os.fstat(file.fileno()).st_size
    used = {storage.key: names for storage, names in grouped(state, size).items()}
    tensors: dict[str, Tensor] = {}
    for key in keys:
        storage = stated.get(key)
        if storage is None:
            raise Refused(f"has a storage {key[:40]!r} that its pickle never mentions")
        count = file.read(8)
        if len(count) < 8 or struct.unpack("<q", count)[0] != storage.elements:
            raise Refused(f"is damaged: the storage {key[:40]!r} has not the {storage.elements:,} elements stated")
        wanted = storage.elements * getattr(torch, storage.dtype).itemsize
        if wanted > size - file.tell():
            raise Refused(f"is truncated: the storage {key[:40]!r} ends behind the file")
        if key not in used:
            file.seek(wanted, os.SEEK_CUR)
            continue
        content = bytearray(file.read(wanted))
        for name in used.pop(key):
            tensors[name] = view(content, state[name])
    if used:
        raise Refused(f"has no data for the storage {next(iter(used))[:40]!r}")
    if file.read(1):
        raise Refused("has bytes behind its last storage")
    return {name: tensors[name] for name in state}

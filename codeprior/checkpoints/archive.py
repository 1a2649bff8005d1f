"""The ZIP of a torch checkpoint: its directory, its members and their tensors; every stated size is checked."""

import os
import struct
import zipfile
from collections.abc import Mapping
from typing import BinaryIO

import torch
from torch import Tensor

from codeprior.checkpoints.machine import Record, Refused, Storage
from codeprior.checkpoints.plain import check_sides

_MAX_DIRECTORY = 64 * 2**20
_MAX_ENTRIES = 100_000
_MAX_BYTES = 16 * 2**30
# the types that a safetensors file can hold too
_DTYPES = {
    "float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "int64", "int32", "int16", "int8",
    "uint64", "uint32", "uint16", "uint8", "bool", "complex64",
}  # fmt: skip


def check_size(file: BinaryIO) -> int:
    """Gives the size of a file, bytes, before all of it is read.

    Args:
        file: Open.

    Raises:
        Refused: It is larger than is accepted, or most of it is holes.
    """
    status = os.fstat(file.fileno())
    there = getattr(status, "st_blocks", status.st_size) * 512  # Windows does not say
    if status.st_size > _MAX_BYTES or there < status.st_size // 4 - 2**20:
        raise Refused(f"claims {status.st_size:,} bytes, more than are there or than is read")
    return status.st_size


def check_directory(file: BinaryIO) -> None:
    """Reads the end of the ZIP by hand: the directory must be small before Python's zipfile walks it.

    Args:
        file: The archive, open.

    Raises:
        Refused: It has none, it is too large, or the file claims bytes that are not there.
    """
    size = check_size(file)
    file.seek(max(0, size - 65_557))
    tail = file.read()
    place = tail.rfind(b"PK\5\6")
    if place < 0 or place + 22 > len(tail):
        raise Refused("is truncated: the archive has no directory")
    entries, length = struct.unpack("<HI", tail[place + 10 : place + 16])
    wide = tail.rfind(b"PK\6\6", 0, place)
    if wide >= 0 and wide + 56 <= len(tail):
        entries, length = struct.unpack("<QQ", tail[wide + 32 : wide + 48])
    if length > _MAX_DIRECTORY or entries > _MAX_ENTRIES:
        raise Refused(f"has a directory of {length:,} bytes and {entries:,} entries; no checkpoint needs that")


def members_of(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """Gives the members by name.

    Args:
        archive: The open archive.
        size: Bytes of the file.

    Raises:
        Refused: One is compressed, encrypted or there twice, or they overlap.
    """
    members: dict[str, zipfile.ZipInfo] = {}
    total = 0
    for info in archive.infolist():
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise Refused(f"has a compressed member {info.filename[:80]!r}; torch.save stores them plain")
        if info.filename in members:
            raise Refused(f"holds {info.filename[:80]!r} twice")
        if info.flag_bits & 1:
            raise Refused("is encrypted")
        members[info.filename] = info
        total += info.file_size
    if total > size:
        raise Refused("has members that overlap")
    return members


def filled(
    archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], prefix: str, state: Mapping[str, Record]
) -> dict[str, Tensor]:
    """Gives the tensors that the records describe.

    Args:
        archive: The open archive.
        members: Its members by name.
        prefix: Folder of the checkpoint in the archive.
        state: Records by name.

    Raises:
        Refused: A record reaches outside its storage, or a storage has not the size that the pickle states.
    """
    by_storage = grouped(state, sum(info.file_size for info in members.values()))
    tensors: dict[str, Tensor] = {}
    for storage, names in by_storage.items():
        info = members.get(f"{prefix}data/{storage.key}")
        if info is None:
            raise Refused(f"has no data for the storage {storage.key[:40]!r}")
        expected = storage.elements * getattr(torch, storage.dtype).itemsize
        if info.file_size != expected:
            raise Refused(
                f"states {expected:,} bytes for the storage {storage.key[:40]!r}, which has {info.file_size:,}"
            )
        content = bytearray(archive.read(info))  # reads to the end, so the checksum is compared
        for name in names:
            tensors[name] = view(content, state[name])
    return {name: tensors[name] for name in state}


def grouped(state: Mapping[str, Record], size: int) -> dict[Storage, list[str]]:
    """Gives the names of the tensors by the storage that they lie in.

    Args:
        state: Records by name.
        size: Bytes that the file has for storages.

    Raises:
        Refused: A record reaches outside its storage, or together they fill far more than the file.
    """
    total = sum(_check_record(name, record) for name, record in state.items())
    if total > 4 * size + 2**26:
        raise Refused(f"has tensors that share storages until they fill {total:,} bytes")
    by_storage: dict[Storage, list[str]] = {}
    for name, record in state.items():
        by_storage.setdefault(record.storage, []).append(name)
    if len({storage.key for storage in by_storage}) != len(by_storage):
        raise Refused("states one storage in two ways")
    return by_storage


def _check_record(name: str, record: Record) -> int:
    """Gives the bytes of a tensor that lies inside its storage, and refuses any other."""
    if name == "__metadata__":
        raise Refused("has a tensor named __metadata__, a name that safetensors keeps for its text")
    dtype = getattr(torch, record.dtype, None)
    if record.dtype not in _DTYPES or not isinstance(dtype, torch.dtype):
        raise Refused(f"{name[:80]} has the type {record.dtype[:40]!r}, which is not read")
    size, stride = record.size, record.stride
    check_sides(name, size)
    if len(size) != len(stride) or min((record.offset, *size, *stride)) < 0:
        raise Refused(f"{name[:80]} has sizes that no tensor has")
    elements, last = 1, record.offset
    for side, step in zip(size, stride, strict=True):
        elements *= side
        last += (side - 1) * step
    held = record.storage.elements * getattr(torch, record.storage.dtype).itemsize // dtype.itemsize
    if max((elements, *size)) > 2**48 or (elements and (last >= held or elements > held)):
        raise Refused(f"{name[:80]} reaches outside its storage")
    return elements * dtype.itemsize


def view(content: bytearray, record: Record) -> Tensor:
    """Gives a tensor in new memory from the bytes of its storage."""
    dtype = getattr(torch, record.dtype)
    if not content or 0 in record.size:
        return torch.empty(record.size, dtype=dtype)
    flat = torch.frombuffer(content, dtype=torch.uint8)
    flat = flat[: flat.numel() // dtype.itemsize * dtype.itemsize].view(dtype)
    return flat.as_strided(record.size, record.stride, record.offset).clone(memory_format=torch.contiguous_format)

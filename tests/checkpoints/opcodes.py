"""Checkpoints put together opcode by opcode: what torch.save would write, and what it never would."""

import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np


def text(value: str) -> bytes:
    """Opcodes that push a text."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    """Opcodes that push an integer of any size."""
    content = pickle.encode_long(value)
    return b"\x8a" + bytes([len(content)]) + content


def numbers(values: tuple[int, ...]) -> bytes:
    """Opcodes that push a tuple of integers."""
    return b"(" + b"".join(map(number, values)) + b"t"


def storage(key: str = "0", elements: int = 4, kind: bytes = b"ctorch\nFloatStorage\n") -> bytes:
    """Opcodes that push a storage."""
    return b"(" + text("storage") + kind + text(key) + text("cpu") + number(elements) + b"tQ"


def tensor(
    size: tuple[int, ...] = (2, 2), stride: tuple[int, ...] = (2, 1), *, offset: int = 0, of: bytes | None = None
) -> bytes:
    """Opcodes that push a tensor."""
    start = b"ctorch._utils\n_rebuild_tensor_v2\n(" + (of if of is not None else storage())
    return start + number(offset) + numbers(size) + numbers(stride) + b"\x89}tR"


def state(*items: bytes) -> bytes:
    """A pickle of a dictionary with an honest tensor `a` and whatever else, opcodes for key and value each."""
    return b"\x80\x02}(" + text("a") + tensor() + b"".join(items) + b"u."


def archive(
    path: Path, content: bytes, *, data: dict[str, bytes] | None = None, folder: str = "archive", method: int = 0
) -> None:
    """Writes a checkpoint's ZIP around a pickle."""
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr(f"{folder}/data.pkl", content)
        file.writestr(f"{folder}/byteorder", "little")
        for name, value in (data if data is not None else {"0": honest()}).items():
            file.writestr(f"{folder}/data/{name}", value)


def honest() -> bytes:
    """The storage of the honest tensor: 1, 2, 3, 4."""
    return np.arange(1, 5, dtype="<f4").tobytes()

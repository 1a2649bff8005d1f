"""Foreign checkpoints, read safely: the container is checked, the pickle is read but never run, tensors are filled.

Three formats are accepted: that of `torch.save` since 1.6, an uncompressed ZIP with one pickle and a file for each
storage; its older format, pickles and storages one after the other; and safetensors.
Every tensor must lie inside its storage, every storage must have the size that the pickle states, every byte must have
the archive's checksum. Then `codeprior convert` writes safetensors.
"""

import os
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from torch import Tensor

from codeprior import files
from codeprior.checkpoints.archive import check_directory, check_size, filled, members_of
from codeprior.checkpoints.legacy import MAGIC, read_pickles
from codeprior.checkpoints.legacy import filled as filled_in_order
from codeprior.checkpoints.machine import Record, Refused
from codeprior.checkpoints.plain import read_tensors
from codeprior.checkpoints.unpickle import Unpickled, unpickle

_MAX_PICKLE = 64 * 2**20
_MAX_VISITS = 300_000
_MAX_DEPTH = 16
_MAX_NAME = 500
_MAX_LINES = 1_000
# where frameworks keep the weights to use, best first: moving averages before what was last trained
SECTIONS = (
    "params_ema",
    "params-ema",
    "g_ema",
    "ema",
    "state_dict",
    "generator",
    "params",
    "model",
    "model_state_dict",
)


class Checkpoint(NamedTuple):
    """The weights of a foreign checkpoint.

    Attributes:
        tensors: By the names of the file's own state dict.
        section: The key under which it lay; empty for the top level.
        scalars: Plain numbers and texts beside it, such as epoch and step.
        dropped: What was left out, a line each.
        sha256: Of the whole file as it was read, 64 hexadecimal digits.
    """

    tensors: dict[str, Tensor]
    section: str
    scalars: dict[str, str]
    dropped: tuple[str, ...]
    sha256: str = ""


def read_checkpoint(path: str | Path, *, section: str | None = None, sha256: str | None = None) -> Checkpoint:
    """Reads the weights of a `torch.save` file or a safetensors file without running anything.

    Args:
        path: The checkpoint; of `torch.save` an archive, or the older format of many published networks.
        section: Key of the state dict; None takes the first of `SECTIONS` that is there, or the top level.
        sha256: What the file's SHA-256 must be, 64 hexadecimal digits, or its beginning of at least eight.

    Returns:
        Tensors bitwise as stored, on the CPU, each in new memory, and the SHA-256 of the file.

    Raises:
        FileNotFoundError: Nothing is there.
        ValueError: The checksum is another, the container has another format, or a size in it is wrong.

    Note:
        Only a checksum from another source shows that a file was changed on purpose.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"read_checkpoint: {path} does not exist.")
    try:
        with files.opened(path) as file:
            return _read(file, path, section, sha256)
    except (
        ValueError,  # Refused, and names in the archive's directory that are no UTF-8
        zipfile.BadZipFile,
        NotImplementedError,
        OSError,
        EOFError,
        struct.error,
    ) as error:
        raise ValueError(f"read_checkpoint: {path}: {getattr(error, 'strerror', None) or error}") from error


def file_sha256(path: Path) -> str:
    """Gives the SHA-256 of a file, 64 hexadecimal digits.

    Args:
        path: The file.
    """
    return files.sha256(path)


def _read(file: BinaryIO, path: Path, section: str | None, expected: str | None) -> Checkpoint:
    """Reads a file that was opened once, so that the hashed file is the one whose tensors are given."""
    check_size(file)
    before = _state(file)
    digest = files.sha256(file)
    wanted = (expected or "").lower().removeprefix("sha256:")
    if expected is not None and (len(wanted) < 8 or not digest.startswith(wanted)):
        raise Refused(f"has SHA-256 {digest}, expected {expected}; do not use it.")
    start = file.read(len(MAGIC))
    file.seek(0)
    if start.startswith(b"PK"):
        found = _from_archive(file, section)
    elif start == MAGIC:
        pickles, keys = read_pickles(file)
        state, name, dropped = _section(pickles, section)
        tensors = filled_in_order(file, keys, state, pickles.storages)
        found = Checkpoint(_unwrapped(tensors, dropped), name, _scalars(pickles.value), tuple(dropped))
    elif start[8:9] == b"{":
        found = _from_safetensors(file)
    else:
        raise Refused(_other(start, file))
    # another process may write into the file meanwhile; if it is only replaced, its count of links changes, no more
    after = _state(file)
    replaced = after[:2] == before[:2] and after.links != before.links and files.sha256(file) == digest
    if after != before and not replaced:
        raise Refused("changed while it was read")
    return found._replace(sha256=digest)


class _State(NamedTuple):
    bytes: int
    written: int
    changed: int
    links: int


def _state(file: BinaryIO) -> _State:
    status = os.fstat(file.fileno())
    return _State(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_nlink)


def _other(start: bytes, file: BinaryIO) -> str:
    file.seek(257)
    if file.read(5) == b"ustar":
        return "is a tar archive, torch's first format, which is not read"
    if start[:1] == b"\x80":
        return "is a bare pickle, not a torch.save archive"
    return "is neither a torch.save archive nor safetensors" if start else "is empty"


def _from_safetensors(file: BinaryIO) -> Checkpoint:
    # bytes, not a map: what is mapped changes when the file does
    tensors, text = read_tensors(file.read())
    return Checkpoint(tensors, "", text, ())


def _from_archive(file: BinaryIO, section: str | None) -> Checkpoint:
    check_directory(file)
    with zipfile.ZipFile(file) as archive:
        members = members_of(archive, os.fstat(file.fileno()).st_size)
        pickles = [name for name in members if name.rpartition("/")[2] == "data.pkl"]
        if len(pickles) != 1:
            raise Refused(f"holds {len(pickles)} pickles named data.pkl; a checkpoint has one")
        prefix = pickles[0].removesuffix("data.pkl")
        if f"{prefix}constants.pkl" in members or any(name.startswith(f"{prefix}code/") for name in members):
            raise Refused("is a TorchScript program, not a checkpoint")
        order = members.get(f"{prefix}byteorder")
        if order is not None and (order.file_size > 16 or archive.read(order).strip() != b"little"):
            raise Refused("was written on a machine of another byte order")
        if members[pickles[0]].file_size > _MAX_PICKLE:
            raise Refused(f"has a pickle of more than {_MAX_PICKLE:,} bytes")
        found = unpickle(archive.read(members[pickles[0]]))
        state, name, dropped = _section(found, section)
        tensors = filled(archive, members, prefix, state)
        return Checkpoint(_unwrapped(tensors, dropped), name, _scalars(found.value), tuple(dropped))


def _section(found: Unpickled, wanted: str | None) -> tuple[dict[str, Record], str, list[str]]:
    top = found.value
    if not isinstance(top, dict):
        raise Refused(f"holds a {_kind(top)} rather than a dictionary of weights")
    if wanted is not None and not isinstance(top.get(wanted), dict):
        have = [str(key)[:40] for key, value in top.items() if isinstance(value, dict)]
        raise Refused(f"has no section {wanted!r}; dictionaries at the top are: {', '.join(have[:20]) or 'none'}")
    walk = _Walk()
    direct = any(isinstance(value, Record) for value in top.values())
    name = wanted or ""
    if wanted is None and not direct:
        name = next((key for key in SECTIONS if isinstance(top.get(key), dict) and walk.tensors(top[key])), "")
    state: dict[str, Record] = {}
    dropped: list[str] = []
    for path, value in walk.leaves(top[name] if name else top):
        if isinstance(value, Record):
            if path in state:
                raise Refused(f"holds two tensors under the name {path[:80]}")
            state[path] = value
        else:
            dropped.append(f"{path}: {_kind(value)}")
    if not state:
        raise Refused("holds no tensors where weights are looked for")
    if name:
        for key, value in top.items():
            if key != name and not isinstance(value, (int, float, str, bool, type(None))):
                count = walk.tensors(value)
                dropped.append(f"{str(key)[:80]}: {count} tensors" if count else f"{str(key)[:80]}: {_kind(value)}")
    dropped += [f"{count} × {name}: not read" for name, count in found.stubs.most_common()]
    if found.dropped_keys:
        dropped.append(f"{found.dropped_keys} entries whose key is no text or number")
    if len(dropped) > _MAX_LINES:
        dropped[_MAX_LINES:] = [f"and {len(dropped) - _MAX_LINES} more"]
    return state, name, dropped


class _Walk:
    """Goes through dictionaries and lists, with one limit for the whole file; shared parts count each time."""

    def __init__(self):
        self.left = _MAX_VISITS

    def tensors(self, value: Any) -> int:
        return sum(isinstance(item, Record) for _, item in self.leaves(value))

    def leaves(self, value: Any) -> Iterator[tuple[str, Any]]:
        stack: list[tuple[str, Any, int]] = [("", value, 0)]
        while stack:
            path, item, depth = stack.pop()
            plain = type(item) in (dict, list, tuple)
            self.left -= len(item) if plain else 1
            if self.left < 0:
                raise Refused(f"holds more than {_MAX_VISITS:,} entries")
            if depth > _MAX_DEPTH or len(path) > _MAX_NAME:
                raise Refused(f"nests dictionaries too deeply, or has names of more than {_MAX_NAME} letters")
            if plain:
                pairs = item.items() if isinstance(item, dict) else enumerate(item)
                inner = [(f"{path}.{_key(key)}" if path else _key(key), inside, depth + 1) for key, inside in pairs]
                stack.extend(reversed(inner))
            else:
                yield path, item


def _key(key: Any) -> str:
    return key[: _MAX_NAME + 1] if isinstance(key, str) else str(key)[: _MAX_NAME + 1]


def _unwrapped(tensors: dict[str, Tensor], dropped: list[str]) -> dict[str, Tensor]:
    """Removes the prefixes that torch.compile and data parallelism put before names, in any order and depth."""
    names = {name: _bare(name) for name in tensors}
    together = bool(names) and all(name.startswith("module.") for name in names.values())
    if together:
        names = {name: bare.removeprefix("module.") for name, bare in names.items()}
    if len(set(names.values())) < len(names) or list(names) == list(names.values()):
        return tensors
    wrappers = [part for part in ("module.", "_orig_mod.") if any(part in f"{name}." for name in tensors)]
    dropped.append(f"the prefix {' and '.join(wrappers)} of names")
    return {names[name]: value for name, value in tensors.items()}


def _bare(name: str) -> str:
    kept: list[str] = []
    compiled = False
    for part in name.split("."):
        if part == "_orig_mod":
            while kept and kept[-1] == "module":
                kept.pop()
            compiled = True
        elif part != "module" or not compiled:
            kept.append(part)
            compiled = False
    return ".".join(kept)


def _scalars(top: dict) -> dict[str, str]:
    return {
        str(key)[:80]: str(value)[:200]
        for key, value in list(top.items())[:200]
        if isinstance(value, (int, float, str, bool)) and isinstance(key, str)
    }


def _kind(value: Any) -> str:
    return str(getattr(value, "name", None) or type(value).__name__)[:80]

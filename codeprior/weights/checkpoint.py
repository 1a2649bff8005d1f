"""Foreign checkpoints, read safely: the container's promises checked, the pickle read but never run, tensors filled.

Accepted is what `torch.save` has written since 1.6: an uncompressed ZIP with one pickle and a file for each storage.
Every tensor must lie inside its storage, every storage must have the size that the pickle states, every byte must have
the archive's checksum. Then `codeprior convert` writes safetensors.
"""

import hashlib
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from torch import Tensor

from codeprior.weights.archive import check_directory, filled, members_of
from codeprior.weights.machine import Record, Refused
from codeprior.weights.unpickle import Unpickled, unpickle

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
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


class Checkpoint(NamedTuple):
    """The weights of a foreign checkpoint.

    Attributes:
        tensors: By the names of the file's own state dict.
        section: The key under which it lay; empty for the top level.
        scalars: Plain numbers and texts beside it, such as epoch and step.
        dropped: What was left out, a line each.
    """

    tensors: dict[str, Tensor]
    section: str
    scalars: dict[str, str]
    dropped: tuple[str, ...]


def read_checkpoint(path: str | Path, *, section: str | None = None, sha256: str | None = None) -> Checkpoint:
    """Reads the weights of a `torch.save` archive or a safetensors file without running anything.

    Args:
        path: The checkpoint.
        section: Key of the state dict; None takes the first of `SECTIONS` that is there, or the top level.
        sha256: What the file's SHA-256 must be, 64 hexadecimal digits.

    Returns:
        Tensors bitwise as stored, on the CPU, each with memory of its own.

    Raises:
        FileNotFoundError: Nothing is there.
        ValueError: The checksum is another, the container is an old or a foreign one, or a promise is broken.

    Note:
        Only a checksum from somewhere else can tell a file that was changed on purpose from the original.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"read_checkpoint: {path} does not exist.")
    if not path.is_file():
        raise ValueError(f"read_checkpoint: {path} is not a regular file.")
    if sha256 is not None:
        _check_sum(path, sha256)
    try:
        with path.open("rb") as file:
            start = file.read(16)
        if start.startswith(b"PK"):
            return _from_archive(path, section)
        if start[8:9] == b"{":
            return _from_safetensors(path)
        raise Refused(_other(start, path))
    except (
        ValueError,  # Refused, and names in the archive's directory that are no UTF-8
        zipfile.BadZipFile,
        NotImplementedError,
        OSError,
        EOFError,
        struct.error,
        SafetensorError,
    ) as error:
        raise ValueError(f"read_checkpoint: {path}: {error}") from error


def file_sha256(path: Path) -> str:
    """Gives the SHA-256 of a file, 64 hexadecimal digits.

    Args:
        path: The file.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_sum(path: Path, expected: str) -> None:
    found = file_sha256(path)
    if found != expected.lower().removeprefix("sha256:"):
        raise ValueError(f"read_checkpoint: {path} has SHA-256 {found}, expected {expected}; do not use it.")


def _other(start: bytes, path: Path) -> str:
    if start.startswith(_LEGACY[: len(start)]) and start:
        return (
            "is in torch's format from before 1.6, which is not read; in an environment that you trust with it, "
            "torch.save(torch.load(FILE, weights_only=True), NEW) writes the present one"
        )
    with path.open("rb") as file:
        file.seek(257)
        if file.read(5) == b"ustar":
            return "is a tar archive, torch's first format, which is not read"
    if start[:1] == b"\x80":
        return "is a bare pickle, not a torch.save archive"
    return "is neither a torch.save archive nor safetensors" if start else "is empty"


def _from_safetensors(path: Path) -> Checkpoint:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
        return Checkpoint(tensors, "", dict(file.metadata() or {}), ())


def _from_archive(path: Path, section: str | None) -> Checkpoint:
    check_directory(path)
    with zipfile.ZipFile(path) as archive:
        members = members_of(archive, path.stat().st_size)
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
    """Goes through dictionaries and lists, with one allowance for the whole file: what is shared counts each time."""

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
    if tensors and all(name.startswith("module.") for name in tensors):
        dropped.append("the prefix module. of every name")
        return {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors


def _scalars(top: dict) -> dict[str, str]:
    return {
        str(key)[:80]: str(value)[:200]
        for key, value in list(top.items())[:200]
        if isinstance(value, (int, float, str, bool)) and isinstance(key, str)
    }


def _kind(value: Any) -> str:
    return str(getattr(value, "name", None) or type(value).__name__)[:80]

"""The list of a folder's training images with the sha256 of each, made once by reading every byte.

`codeprior data check FOLDER` writes it. Training then reads only what is listed, and a file that is no longer the one
that was listed is not used.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple, TypeVar, get_type_hints

from codeprior import files

INDEX = "index.jsonl"
"""Name of the list, in the folder of the images."""
_FORMAT = "codeprior images 1"
Line = TypeVar("Line")


class Entry(NamedTuple):
    """One image of a list."""

    name: str
    """Path below the folder, with forward slashes."""
    bytes: int
    sha256: str
    width: int
    """Pixels."""
    height: int
    """Pixels."""


class Checked(NamedTuple):
    """What was found in a folder when every file was read."""

    entries: list[Entry]
    """Images that can be used, in order of name."""
    refused: dict[str, str]
    """Name to reason, of the files that cannot."""
    copies: dict[str, str]
    """Name to the name of an earlier file with the same bytes; they are listed all the same."""


def check_images(folder: str | Path, *, square: bool = True, workers: int = 1) -> Checked:
    """Reads every image of a folder completely, and says which can be trained on.

    Args:
        folder: Searched with everything below it; names that begin with a dot are skipped.
        square: Refuse images that are not square.
        workers: Files that are read at the same time.

    Raises:
        ValueError: The folder holds no file that is an image by name or content.
    """
    from codeprior.photos.files import looks_like_photo

    root = Path(folder)
    paths = [path for path in _files(root) if looks_like_photo(path)]
    if not paths:
        raise ValueError(f"check_images: expected a folder with images, found none in {root}.")
    entries: list[Entry] = []
    refused: dict[str, str] = {}
    copies: dict[str, str] = {}
    first: dict[str, str] = {}
    with ThreadPoolExecutor(workers) as pool:
        for found in pool.map(lambda path: _look(root, path, square), paths):
            if isinstance(found, Entry):
                entries.append(found)
                if first.setdefault(found.sha256, found.name) != found.name:
                    copies[found.name] = first[found.sha256]
            else:
                refused[found[0]] = found[1]
    return Checked(entries, refused, copies)


def write_index(path: str | Path, entries: Sequence[NamedTuple], *, format: str = _FORMAT) -> None:
    """Writes a list, whole or not at all; it holds a sha256 of itself.

    Args:
        path: The file; an existing list is replaced in one step.
        entries: One NamedTuple of JSON values per line.
        format: What the first line calls it.

    Raises:
        FileExistsError: Something that is no such list has the name.
    """
    path = Path(path)
    body = "".join(json.dumps(entry._asdict()) + "\n" for entry in entries).encode()
    head = {"format": format, "count": len(entries), "sha256": hashlib.sha256(body).hexdigest()}
    if os.path.lexists(path) and not _is_list(path, format):
        raise FileExistsError(f"{path} exists and is no list of format {format!r}; it is kept, move it away.")
    files.write(path, json.dumps(head).encode() + b"\n" + body, overwrite=True)


def read_index(path: str | Path) -> list[Entry]:
    """Gives the list of a folder's images.

    Args:
        path: As written by `write_index`.

    Raises:
        ValueError: It is no such list, or not as it was written.
    """
    return read_lines(path, Entry, format=_FORMAT)


def read_lines(path: str | Path, kind: Callable[..., Line], *, format: str) -> list[Line]:
    """Gives the lines of a list of some format, see `read_index`.

    Args:
        path: The list.
        kind: The NamedTuple of a line, of texts and counts; what ends in a name must stay below the list's folder.
        format: What the first line must call it.

    Raises:
        ValueError: It is no such list, not as it was written, or has a line that describes no such thing.
    """
    with files.opened(path) as file:
        head, _, body = file.read().partition(b"\n")
    try:
        promised = json.loads(head)
        known = promised["format"] == format and promised["sha256"] == hashlib.sha256(body).hexdigest()
    except (ValueError, TypeError, KeyError):
        known = False
    if not known:
        raise ValueError(f"{path}: expected a whole list of format {format!r}; make it again with `codeprior data`.")
    try:
        lines = [kind(**json.loads(line)) for line in body.splitlines()]
    except (ValueError, TypeError, RecursionError):
        lines = [None]
    if not all(line is not None and is_sound(line) for line in lines):
        raise ValueError(
            f"{path}: has a line that describes no image below its folder; make the list again with `codeprior data`."
        )
    return lines  # pyright: ignore[reportReturnType]


def _is_list(path: Path, format: str) -> bool:
    try:
        with files.opened(path) as file:
            return not path.is_symlink() and json.loads(file.readline(4096))["format"] == format
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return False


def is_sound(line: Any) -> bool:
    """Says whether a line has its types, and names nothing outside the folder of the list."""
    names = {name for name in ("name", "shard") if hasattr(line, name)}
    for field, type_ in get_type_hints(type(line)).items():
        value = getattr(line, field)
        if type(value) is not type_ or (type_ is int and value < 0):
            return False
        if field in names and (PureWindowsPath(value).is_absolute() or set(re.split(r"[/\\]", value)) & {"", ".."}):
            return False
    return "shard" not in names or not set("/\\:") & set(line.shard)


def _files(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name[0] != ".")
        yield from (Path(folder) / name for name in sorted(names) if name[0] != "." and name != INDEX)


def _look(root: Path, path: Path, square: bool) -> Entry | tuple[str, str]:
    from codeprior.photos.files import PhotoError, read_bytes

    name = path.relative_to(root).as_posix()
    try:
        content = read_bytes(path)
        return described(name, content, square=square)
    except PhotoError as error:
        return name, error.reason


def described(name: str, content: bytes, *, square: bool) -> Entry:
    """Gives the line of an image from the bytes of its file.

    Raises:
        PhotoError: It cannot be used; the text says why.
    """
    from codeprior.photos.files import PhotoError, decode

    height, width, _ = decode(content, name).pixels.shape
    if square and height != width:
        raise PhotoError(name, f"is not square: {width}×{height} pixels")
    return Entry(name, len(content), hashlib.sha256(content).hexdigest(), width, height)

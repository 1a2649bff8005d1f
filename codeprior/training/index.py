"""The list of a folder's training images: which they are, and the sha256 of each, made once by looking at every byte.

`codeprior data check FOLDER` writes it. Training then reads only what is listed, and a file that is no longer the one
that was listed is not used.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from codeprior.training.disk import sync, write_file

INDEX = "index.jsonl"
"""Name of the list, in the folder of the images."""
_FORMAT = "codeprior images 1"


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
    """What a look at every file of a folder found."""

    entries: list[Entry]
    """Images that can be used, in order of name."""
    refused: dict[str, str]
    """Name to reason, of the files that cannot."""
    copies: dict[str, str]
    """Name to the name of an earlier file with the same bytes; they are listed all the same."""


def check_images(folder: str | Path, *, square: bool = True, workers: int = 1) -> Checked:
    """Reads every image of a folder completely, and says which can be trained on.

    Args:
        folder: Searched through with everything below it; names that begin with a dot are passed over.
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
        path: The file; an existing one is replaced in one step.
        entries: One NamedTuple of JSON values a line.
        format: What the first line calls it.
    """
    path = Path(path)
    body = "".join(json.dumps(entry._asdict()) + "\n" for entry in entries).encode()
    head = {"format": format, "count": len(entries), "sha256": hashlib.sha256(body).hexdigest()}
    beside = path.with_name(f".part-{path.name}")
    beside.unlink(missing_ok=True)
    write_file(beside, json.dumps(head).encode() + b"\n" + body)
    os.replace(beside, path)
    sync(path.parent)


def read_index(path: str | Path) -> list[Entry]:
    """Gives the list of a folder's images.

    Args:
        path: As written by `write_index`.

    Raises:
        ValueError: It is no such list, or not as it was written.
    """
    return [Entry(**line) for line in read_lines(path, format=_FORMAT)]


def read_lines(path: str | Path, *, format: str) -> list[dict[str, Any]]:
    """Gives the lines of a list of some format, see `read_index`."""
    head, _, body = Path(path).read_bytes().partition(b"\n")
    try:
        promised = json.loads(head)
        known = promised["format"] == format and promised["sha256"] == hashlib.sha256(body).hexdigest()
    except (ValueError, TypeError, KeyError):
        known = False
    if not known:
        raise ValueError(f"{path}: expected a whole list of format {format!r}; make it again with `codeprior data`.")
    return [json.loads(line) for line in body.splitlines()]


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

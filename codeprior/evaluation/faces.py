"""Which clean faces a test set has: the pictures of a folder, or the rows of an index, each with its checksum."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from codeprior.files import PICTURES
from codeprior.images import from_levels
from codeprior.metrics.provenance import checksum
from codeprior.photos import files
from codeprior.shapes import Image


class Face(NamedTuple):
    """One clean face of a set.

    Attributes:
        name: How results call it.
        file: Path inside the folder of faces.
        sha256: Of the file.
        identity: The person; the face's name where the person is not known.
        source: Where the picture comes from, by the index; empty where the index does not say.
    """

    name: str
    file: str
    sha256: str
    identity: str
    source: str = ""


class Chosen(NamedTuple):
    """What `chosen_faces` gives.

    Attributes:
        faces: Those that can be read, in the order of the folder or index.
        unreadable: The others: file to the reason why it cannot be read.
    """

    faces: list[Face]
    unreadable: dict[str, str]


def chosen_faces(
    folder: str | Path, *, index: str | Path | None = None, split: str | None = None, sources: Sequence[str] = (),
    classes: Sequence[str] = (), limit: int | None = None,
) -> Chosen:  # fmt: skip
    """Gives the faces of a folder that can be read.

    Args:
        folder: Its pictures, at any depth; or the rows of an index, where an index, a split, a source or a class is
            asked for.
        index: A CSV with the columns `id`, `split` and `file`, and where they are known `file512`, which is preferred
            to `file`, `identity`, `source` and `class`; paths are inside `folder`. By default the folder's `index.csv`.
        split: Only the rows of this split.
        sources: Only the rows of these sources.
        classes: Only the rows of these classes.
        limit: At most so many faces, spread evenly.

    Raises:
        ValueError: There is no face, or there is no index and one is needed, or it lacks a column that is asked for.
    """
    folder = Path(folder)
    if index is not None or split or sources or classes:
        path = folder / "index.csv" if index is None else Path(index)
        chosen = _indexed(path, {"split": [split] if split else (), "source": sources, "class": classes})
    else:
        chosen = _found(folder)
    if limit is not None and limit < len(chosen):
        chosen = [chosen[place * len(chosen) // limit] for place in range(limit)]
    faces, unreadable = [], {}
    for name, file, identity, source in chosen:
        try:
            files.read(folder / file)
        except files.PhotoError as error:
            unreadable[file] = error.reason
            continue
        faces.append(Face(name, file, checksum(folder / file), identity, source))
    if not faces:
        raise ValueError(f"test set: expected at least one readable face in {folder}, got none.")
    return Chosen(faces, unreadable)


def read_face(folder: str | Path, face: Face) -> Image:
    """Gives a face of a set, `1 3 S S`, unit.

    Args:
        folder: Of the faces.
        face: Which.

    Raises:
        ValueError: It cannot be read, is not square, or is not the picture that was chosen.
    """
    path = Path(folder) / face.file
    if path.is_file() and checksum(path) != face.sha256:
        raise ValueError("is not the picture that it was when the set was built")
    try:
        pixels = files.read(path).pixels
    except files.PhotoError as error:
        raise ValueError(error.reason) from error
    if pixels.shape[0] != pixels.shape[1]:
        raise ValueError(f"is not square: {pixels.shape[1]}×{pixels.shape[0]} pixels")
    return from_levels(pixels)[None]


def _found(folder: Path) -> list[tuple[str, str, str, str]]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES)
    relative = [path.relative_to(folder) for path in paths]
    names = [path.with_suffix("").as_posix() for path in relative]
    return [(name, path.as_posix(), name, "") for name, path in zip(names, relative, strict=True)]


def _indexed(index: Path, wanted: dict[str, Sequence[str]]) -> list[tuple[str, str, str, str]]:
    asked = {column: list(values) for column, values in wanted.items() if values}
    said = ", ".join(f"the {column} {' or '.join(map(repr, values))}" for column, values in asked.items()) or "a face"
    if not index.is_file():
        raise ValueError(f"test set: expected {index}, which says what belongs to {said}; leave that out.")
    with index.open(newline="", encoding="utf-8") as lines:
        rows: list[dict[str, Any]] = list(csv.DictReader(lines))
    if rows and (lacking := [column for column in ("id", "file", *asked) if column not in rows[0]]):
        raise ValueError(f"test set: {index} has no column {', '.join(lacking)}; it has {', '.join(rows[0])}.")
    rows = [row for row in rows if all(row[column] in values for column, values in asked.items())]
    if not rows:
        raise ValueError(f"test set: no row of {index} has {said}.")
    return [
        (row["id"], row.get("file512") or row["file"], row.get("identity") or row["id"], row.get("source") or "")
        for row in rows
    ]

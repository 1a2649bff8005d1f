"""A test set as a small file: which clean faces, which preset, and what was drawn for each face.

The file holds no picture. Whoever has the faces gets the same degraded images from it, because the drawn values are
written down and checksums say whether the faces are the same; they are applied by the plain chain (mode `strict`). A
face's draw depends on the seed and its own name, so a part of the faces is degraded as it is in the whole.

One rule for models smaller than 512 px, as in training: the clean face is brought to 512 px, degraded there, and then
resized to the model's size by area averaging; the truth is the clean face resized by area averaging.
"""

import csv
import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from codeprior import degradations
from codeprior.degradations import Params, concatenate
from codeprior.metrics.provenance import checksum
from codeprior.photos import files
from codeprior.shapes import Image

from .data import resize

_FORMAT = "codeprior test set 1"
_PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
_chain = functools.cache(degradations.preset)  # a partial preset warns each time that it is made


class Face(NamedTuple):
    """One clean face of a set.

    Attributes:
        name: How results call it.
        file: Path inside the folder of faces.
        sha256: Of the file.
        identity: Whose face it is; the name where nothing is known.
    """

    name: str
    file: str
    sha256: str
    identity: str


class Pairs(NamedTuple):
    """A batch of a test set.

    Attributes:
        faces: Which they are.
        clean: `b 3 S S`, unit.
        degraded: `b 3 S S`, unit.
        gone: Face name to reason, for those that could not be read.
    """

    faces: list[Face]
    clean: Image
    degraded: Image
    gone: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class TestSet:
    """Clean faces and the degradation of each."""

    __test__ = False  # pytest takes classes of this name for tests

    preset: str
    seed: int
    faces: Sequence[Face]
    drawn: Params  # one row a face
    degradation_size: int = 512  # pixels; faces are degraded at this size
    unreadable: dict[str, str] = field(default_factory=dict)  # file to reason, of files that are in no set

    def stamps(self) -> dict[str, str]:
        """Gives what identifies each degraded face: its name, and a digest of the file's checksum and the draw."""
        told = [json.dumps([face.sha256, self.drawn.describe(row)], sort_keys=True)
                for row, face in enumerate(self.faces)]  # fmt: skip
        return {
            face.name: hashlib.sha256(text.encode()).hexdigest()[:16]
            for face, text in zip(self.faces, told, strict=True)
        }

    def save(self, path: str | Path) -> None:
        """Writes the set as JSON.

        Args:
            path: Where to; an existing file is replaced.
        """
        columns = {name: str(value.dtype).removeprefix("torch.") for name, value in self.drawn.values.items()}
        content = {
            "format": _FORMAT,
            "preset": self.preset,
            "chain": repr(_chain(self.preset)),
            "seed": self.seed,
            "degradation_size": self.degradation_size,
            "columns": columns,
            "unreadable": self.unreadable,
        }
        rows = [
            json.dumps({**face._asdict(), "drawn": self.drawn.describe(row)}) for row, face in enumerate(self.faces)
        ]
        head = json.dumps(content, indent=1, ensure_ascii=False).removesuffix("\n}")
        Path(path).write_text(head + ',\n "faces": [\n' + ",\n".join(rows) + "\n]}\n", encoding="utf-8")

    @staticmethod
    def load(path: str | Path) -> "TestSet":
        """Reads what `save` wrote.

        Raises:
            ValueError: It is no test set, or its preset means something else today.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"TestSet.load: {path} is no test set: {error}.") from error
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise ValueError(f"TestSet.load: {path} is no test set of the format {_FORMAT!r}.")
        chain = repr(_chain(content["preset"]))
        if chain != content["chain"]:
            raise ValueError(
                f"TestSet.load: the preset {content['preset']} of {path} was {content['chain']}, and is {chain} today; "
                "build the set anew."
            )
        rows, size = content["faces"], content["degradation_size"]
        values = {
            name: torch.tensor([row["drawn"][name] for row in rows], dtype=getattr(torch, kind))
            for name, kind in content["columns"].items()
        }
        faces = [Face(**{key: value for key, value in row.items() if key != "drawn"}) for row in rows]
        return TestSet(
            preset=content["preset"], seed=content["seed"], faces=faces, degradation_size=size,
            drawn=Params(values=values, sizes=torch.full((len(rows), 2), size, dtype=torch.int32)),
            unreadable=content["unreadable"],
        )  # fmt: skip

    def batches(self, folder: str | Path, *, size: int, batch: int = 16) -> Iterator[Pairs]:
        """Gives the pairs of the set.

        Args:
            folder: Where the faces are.
            size: Side of the images wanted, pixels.
            batch: Faces at once.

        Yields:
            Every face once, in order; those that cannot be read, or are another picture today, with the reason.
        """
        chain = _chain(self.preset)
        for start in range(0, len(self.faces), batch):
            rows, clean, large, gone = [], [], [], {}
            for row in range(start, min(start + batch, len(self.faces))):
                try:
                    pixels = read_face(Path(folder), self.faces[row])
                except ValueError as error:
                    gone[self.faces[row].name] = str(error)
                    continue
                rows.append(row)
                clean.append(resize(pixels, size))
                large.append(resize(pixels, self.degradation_size))
            if rows:
                damaged = chain.apply(torch.cat(large), self.drawn[rows], mode="strict")
                assert isinstance(damaged, Tensor)
                yield Pairs([self.faces[row] for row in rows], torch.cat(clean), resize(damaged, size), gone)
            elif gone:
                nothing = torch.empty(0, 3, size, size)
                yield Pairs([], nothing, nothing, gone)


def build(
    folder: str | Path, *, preset: str, seed: int, split: str | None = None, limit: int | None = None,
    degradation_size: int = 512,
) -> TestSet:  # fmt: skip
    """Builds a set from a folder of clean aligned faces.

    Args:
        folder: Its pictures, at any depth; or the rows of its `index.csv`, where a split is asked for.
        preset: Name of the degradation.
        seed: With a face's name, what its degradation follows from.
        split: Only the rows of `index.csv` of this split; their column `file512` is preferred to `file`.
        limit: At most so many faces, spread evenly.
        degradation_size: Side at which faces are degraded, pixels.

    Raises:
        ValueError: There is no face, or a split is asked for and there is no index.
    """
    faces, unreadable = chosen_faces(folder, split=split, limit=limit)
    op, side = _chain(preset), (degradation_size, degradation_size)
    drawn = [op.sample(side, torch.Generator().manual_seed(_seed(seed, face.name))) for face in faces]
    return TestSet(
        preset=preset, seed=seed, faces=faces, drawn=concatenate(drawn), degradation_size=degradation_size,
        unreadable=unreadable,
    )  # fmt: skip


def chosen_faces(
    folder: str | Path, *, split: str | None = None, limit: int | None = None
) -> tuple[list[Face], dict[str, str]]:
    """Gives the faces of a folder that can be read.

    Args:
        folder: Its pictures, at any depth; or the rows of its `index.csv`, where a split is asked for.
        split: Only the rows of `index.csv` of this split; their column `file512` is preferred to `file`.
        limit: At most so many faces, spread evenly.

    Returns:
        The faces, and file to reason of those that cannot be read.

    Raises:
        ValueError: There is no face, or a split is asked for and there is no index.
    """
    folder = Path(folder)
    chosen = _indexed(folder, split) if split else _found(folder)
    if limit is not None and limit < len(chosen):
        chosen = [chosen[place * len(chosen) // limit] for place in range(limit)]
    faces, unreadable = [], {}
    for name, file, identity in chosen:
        try:
            files.read(folder / file)
        except files.PhotoError as error:
            unreadable[file] = error.reason
            continue
        faces.append(Face(name, file, checksum(folder / file), identity))
    if not faces:
        raise ValueError(f"test set: expected at least one readable face in {folder}, got none.")
    return faces, unreadable


def _seed(seed: int, name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:7], "big")


def _found(folder: Path) -> list[tuple[str, str, str]]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _PICTURES)
    relative = [path.relative_to(folder) for path in paths]
    return [(path.with_suffix("").as_posix(), path.as_posix(), path.with_suffix("").as_posix()) for path in relative]


def _indexed(folder: Path, split: str) -> list[tuple[str, str, str]]:
    index = folder / "index.csv"
    if not index.is_file():
        raise ValueError(
            f"test set: expected {index}, which says what belongs to the split {split!r}; leave split out."
        )
    with index.open(newline="", encoding="utf-8") as lines:
        rows: list[dict[str, Any]] = [row for row in csv.DictReader(lines) if row["split"] == split]
    if not rows:
        raise ValueError(f"test set: no row of {index} has the split {split!r}.")
    return [(row["id"], row.get("file512") or row["file"], row.get("identity") or row["id"]) for row in rows]


def read_face(folder: Path, face: Face) -> Image:
    """Gives a face of a set, `1 3 S S`, unit.

    Args:
        folder: Of the faces.
        face: Which.

    Raises:
        ValueError: It cannot be read, is not square, or is another picture than when it was chosen.
    """
    path = folder / face.file
    if path.is_file() and checksum(path) != face.sha256:
        raise ValueError("is another picture than when the set was built")
    try:
        pixels = torch.from_numpy(files.read(path).pixels)
    except files.PhotoError as error:
        raise ValueError(error.reason) from error
    if pixels.shape[0] != pixels.shape[1]:
        raise ValueError(f"is not square: {pixels.shape[1]}×{pixels.shape[0]} pixels")
    return rearrange(pixels, "h w c -> 1 c h w").float() / 255

"""A test set as a small file: which clean faces, which preset, and what was drawn for each face.

The file holds no picture. Whoever has the faces gets the same degraded images from it, because the drawn values are
written down and checksums say whether the faces are the same; they are applied by the plain chain (mode `strict`). A
face's draw depends on the seed and its own name, so that a part of the set is degraded just as in the whole set.

One rule for models smaller than 512 px, as in training: the clean face is brought to 512 px, degraded there, and then
resized to the model's size by area averaging; the truth is the clean face resized by area averaging.
"""

import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from codeprior import degradations, files
from codeprior.degradations import Chain, Op, Params, Round, concatenate, definition
from codeprior.evaluation.faces import Face, chosen_faces, read_face
from codeprior.images import resize
from codeprior.shapes import Image

_FORMAT = "codeprior test set 1"
CLEAN = "clean"
"""The preset without damage: the face at 512 px in 8-bit levels, as a file would hold it."""


class Condition(Protocol):
    """Faces and one way in which they are damaged: what a run measures methods under."""

    @property
    def name(self) -> str:
        """How results call it."""
        ...

    @property
    def faces(self) -> Sequence[Face]:
        """The clean faces."""
        ...

    @property
    def chain(self) -> str:
        """The degradation in full."""
        ...

    def stamps(self) -> dict[str, str]:
        """Gives what identifies each damaged face, by the face's name."""
        ...

    def degrade(self, names: Sequence[str], large: Image) -> Image:
        """Gives the named faces damaged, `b 3 S S`, unit, from the clean ones at the size of degradation."""
        ...


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
    drawn: Params  # one row per face
    degradation_size: int = 512  # pixels; faces are degraded at this size
    unreadable: dict[str, str] = field(default_factory=dict)  # file to reason, of files that are in no set
    written_chain: str = ""  # how the file that the set was read from describes the degradation; empty for a new set

    @property
    def name(self) -> str:
        """How results call it: the preset."""
        return self.preset

    @property
    def chain(self) -> str:
        """The degradation in full, with its ranges, in the words of the version that wrote the set.

        Measurements and cached pictures of a set are found by it, even after an op has got a new field.
        """
        return self.written_chain or definition(_chain(self.preset))

    def stamps(self) -> dict[str, str]:
        """Gives what identifies each degraded face: its name, and a digest of the file's checksum and the draw."""
        texts = [json.dumps([face.sha256, self.drawn.describe(row)], sort_keys=True)
                for row, face in enumerate(self.faces)]  # fmt: skip
        return {
            face.name: hashlib.sha256(text.encode()).hexdigest()[:16]
            for face, text in zip(self.faces, texts, strict=True)
        }

    def degrade(self, names: Sequence[str], large: Image) -> Image:
        """Gives faces of the set degraded.

        Args:
            names: Which.
            large: The clean faces in that order, `b 3 S S` with the side of degradation, unit.
        """
        place = {face.name: row for row, face in enumerate(self.faces)}
        damaged = _chain(self.preset).apply(large, self.drawn[[place[name] for name in names]], mode="strict")
        assert isinstance(damaged, Tensor)
        return damaged

    def save(self, path: str | Path) -> None:
        """Writes the set as JSON.

        Args:
            path: Where to; an existing file is replaced.
        """
        columns = {name: str(value.dtype).removeprefix("torch.") for name, value in self.drawn.values.items()}
        content = {
            "format": _FORMAT,
            "preset": self.preset,
            "chain": self.chain,
            "seed": self.seed,
            "degradation_size": self.degradation_size,
            "columns": columns,
            "unreadable": self.unreadable,
        }
        rows = [
            json.dumps({**face._asdict(), "drawn": self.drawn.describe(row)}) for row, face in enumerate(self.faces)
        ]
        head = json.dumps(content, indent=1, ensure_ascii=False).removesuffix("\n}")
        files.write(path, head + ',\n "faces": [\n' + ",\n".join(rows) + "\n]}\n", overwrite=True)

    @staticmethod
    def load(path: str | Path) -> "TestSet":
        """Reads what `save` wrote.

        Raises:
            ValueError: It is no test set, or its preset is defined differently today. A field that an op has got since
                then does not matter where the preset leaves it at its default.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"TestSet.load: {path} is no test set: {error}.") from error
        if not isinstance(content, dict) or content.get("format") != _FORMAT:
            raise ValueError(f"TestSet.load: {path} is no test set of the format {_FORMAT!r}.")
        op, chain = _chain(content["preset"]), content["chain"]
        if not isinstance(chain, str) or not op.is_described_by(chain):
            raise ValueError(
                f"TestSet.load: the preset {content['preset']} of {path} was {chain}, and is {definition(op)} today; "
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
            unreadable=content["unreadable"], written_chain=chain,
        )  # fmt: skip

    def batches(self, folder: str | Path, *, size: int, batch: int = 16) -> Iterator[Pairs]:
        """Gives the pairs of the set.

        Args:
            folder: Where the faces are.
            size: Side of the images wanted, pixels.
            batch: Faces at once.

        Yields:
            Every face once, in order; those that cannot be read, or whose picture has changed, with the reason.
        """
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
                shown = [self.faces[row] for row in rows]
                damaged = self.degrade([face.name for face in shown], torch.cat(large))
                yield Pairs(shown, torch.cat(clean), resize(damaged, size), gone)
            elif gone:
                nothing = torch.empty(0, 3, size, size)
                yield Pairs([], nothing, nothing, gone)


def build(
    folder: str | Path, *, preset: str, seed: int = 0, index: str | Path | None = None, split: str | None = None,
    sources: Sequence[str] = (), classes: Sequence[str] = (), limit: int | None = None, degradation_size: int = 512,
) -> TestSet:  # fmt: skip
    """Builds a set from a folder of clean aligned faces.

    Args:
        folder: Its pictures, or the rows of an index; see `chosen_faces`.
        preset: Name of the degradation; `clean` for none.
        seed: The degradation of a face follows from it and the face's name, not from the order or number of the faces.
        index: A CSV with the columns `id`, `split` and `file`.
        split: Only this split of the index.
        sources: Only these sources of the index.
        classes: Only these classes of the index.
        limit: At most so many faces, spread evenly.
        degradation_size: Side at which faces are degraded, pixels.

    Raises:
        ValueError: There is no face, or no such preset, or the index lacks what is asked for.
    """
    chosen = chosen_faces(folder, index=index, split=split, sources=sources, classes=classes, limit=limit)
    return drawn_set(chosen.faces, preset=preset, seed=seed, degradation_size=degradation_size,
                     unreadable=chosen.unreadable)  # fmt: skip


def drawn_set(
    faces: Sequence[Face], *, preset: str, seed: int = 0, degradation_size: int = 512,
    unreadable: dict[str, str] | None = None,
) -> TestSet:  # fmt: skip
    """Gives the set of faces that are chosen already.

    Args:
        faces: Which.
        preset: Name of the degradation; `clean` for none.
        seed: The degradation of a face follows from it and the face's name.
        degradation_size: Side at which faces are degraded, pixels.
        unreadable: File to reason, of files that are left out of the set.

    Raises:
        ValueError: There is no such preset.
    """
    op, side = _chain(preset), (degradation_size, degradation_size)
    drawn = [op.sample(side, torch.Generator().manual_seed(draw_seed(seed, face.name))) for face in faces]
    return TestSet(
        preset=preset, seed=seed, faces=faces, drawn=concatenate(drawn), degradation_size=degradation_size,
        unreadable=unreadable or {},
    )  # fmt: skip


def draw_seed(seed: int, name: str) -> int:
    """Gives the seed of one face's draw, the same in every set that holds the face.

    Args:
        seed: Of the set.
        name: Of the face.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:7], "big")


@functools.cache
def _chain(preset: str) -> Op:
    # cached, because a partial preset warns each time it is made
    return Chain(ops=(Round(),)) if preset == CLEAN else degradations.preset(preset)

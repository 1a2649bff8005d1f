"""The restorers that a command is asked to measure: names, recipes, weights and their checksums."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from codeprior.commands._recipes import RECIPES, recipe
from codeprior.metrics import Entry, Journal
from codeprior.metrics.provenance import checksum
from codeprior.photos.faces import match_colour
from codeprior.shapes import Image

from .test_set import Face, TestSet

Restore = Callable[[Image], Image]
"""Unit images to unit images."""


def load_methods(
    words: Sequence[str], *, size: int | None = None, batch: int = 16, colour: bool = False
) -> tuple[dict[str, Any], dict[str, dict[str, str]], int]:
    """Loads the restorers of a command.

    Args:
        words: `NAME=WEIGHTS`, a restorer of this recipe, or `NAME=RECIPE:WEIGHTS`.
        size: Side of the faces; the restorers' own where nothing is given, 512 without restorers.
        batch: Faces at once.
        colour: Also each restorer with the coarse colours of its input, under a name of its own.

    Returns:
        Restorers by name; recipe, weights file and its SHA-256 by name; and the size, pixels.

    Raises:
        ValueError: A word is malformed, or the restorers take different sizes.
        FileNotFoundError: There is no such weights file.
    """
    asked = dict(_named(word) for word in words)
    restorers = {name: recipe(kind).load(path, batch=batch) for name, (kind, path) in asked.items()}
    sizes = {name: restorer.size for name, restorer in restorers.items()}
    side = size or next(iter(sizes.values()), 512)
    if any(other != side for other in sizes.values()):
        raise ValueError(f"the methods restore different sizes, {sizes}; evaluate those of one size together.")
    told = {
        name: {"recipe": kind, "weights": Path(path).name, "sha256": weights_checksum(path)}
        for name, (kind, path) in asked.items()
    }
    for name in list(restorers) if colour else []:
        restorers[f"{name}, colours matched"] = partial(_matched, restorers[name])
        told[f"{name}, colours matched"] = {**told[name], "colours": "of the input, match_colour"}
    return restorers, told, side


class Done:
    """What is measured already of a test set: faces by draw and checksum, methods by the checksum of their weights.

    Args:
        journal: Where it is kept.
        test_set: Faces and draws.
        weights: Method to the SHA-256 of its weights; others, such as the input, depend on the face alone. A method
            whose checksum is empty is never taken as measured.
    """

    def __init__(self, journal: Journal, test_set: TestSet, weights: Mapping[str, str]):
        self._journal, self._weights = journal, weights
        self._stamps = {}
        for row, face in enumerate(test_set.faces):
            drawn = json.dumps([face.sha256, test_set.drawn.describe(row)], sort_keys=True)
            self._stamps[face.name] = hashlib.sha256(drawn.encode()).hexdigest()[:16]

    def known(self, test_set: TestSet, methods: Iterable[str]) -> dict[str, dict[str, Entry]]:
        """Gives the entries by face and method.

        Args:
            test_set: Its faces.
            methods: Which.
        """
        found: dict[str, dict[str, Entry]] = {}
        for method in methods:
            for face in test_set.faces:
                stamp = self._stamps[face.name] + self._weights.get(method, "input")[:16]
                entry = self._journal.find(method, face.name, stamp)
                if entry is not None and self._weights.get(method, "input"):
                    found.setdefault(face.name, {})[method] = entry
        return found

    def add(self, faces: Sequence[Face], values: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Keeps what `score` gave for a batch.

        Args:
            faces: Of the batch.
            values: Method to column to values.
        """
        for method, columns in values.items():
            for row, face in enumerate(faces):
                stamp = self._stamps[face.name] + self._weights.get(method, "input")[:16]
                entry = Entry({name: float(column[row]) for name, column in columns.items()})
                self._journal.add(method, face.name, stamp=stamp, entry=entry)


def _matched(restore: Restore, images: Image) -> Image:
    return match_colour(restore(images), images)


def weights_checksum(path: str | Path) -> str:
    """Gives the SHA-256 of a weights file; empty for weights that ship under a name.

    Args:
        path: The file.
    """
    return checksum(path) if Path(path).is_file() else ""


def _named(text: str) -> tuple[str, tuple[str, str]]:
    """Gives name, recipe and weights of `NAME=WEIGHTS` or `NAME=RECIPE:WEIGHTS`."""
    name, equals, path = text.partition("=")
    if not (name and equals and path) or name in ("input", "clean"):
        raise ValueError(f'expected --method "NAME=WEIGHTS" with a name other than input and clean, got {text!r}.')
    kind, colon, rest = path.partition(":")
    return name, (kind, rest) if colon and kind in RECIPES else ("daefr", path)

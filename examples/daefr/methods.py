"""The restorers that a command is asked to measure: names, recipes, weights and their checksums."""

import argparse
import sys
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
    """What is measured already: pictures by what they are made from, methods by the checksum of their weights.

    Args:
        journal: Where it is kept.
        stamps: Picture to what identifies it.
        weights: Method to the SHA-256 of its weights; others, such as the input, depend on the picture alone. A method
            whose checksum is empty is never taken as measured.
    """

    def __init__(self, journal: Journal, stamps: Mapping[str, str], weights: Mapping[str, str]):
        self._journal, self._stamps, self._weights = journal, stamps, weights

    def known(self, names: Iterable[str], methods: Sequence[str]) -> dict[str, dict[str, Entry]]:
        """Gives the entries by picture and method; pictures without an entry are left out.

        Args:
            names: Of the pictures.
            methods: Which.
        """
        found: dict[str, dict[str, Entry]] = {}
        for name in names:
            for method in methods:
                entry = self._journal.find(method, name, self._stamp(name, method))
                if entry is not None and self._weights.get(method, "input"):
                    found.setdefault(name, {})[method] = entry
        return found

    def add(self, names: Sequence[str], values: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Keeps what `score` gave for a batch.

        Args:
            names: Of the pictures of the batch.
            values: Method to column to values.
        """
        for method, columns in values.items():
            for row, name in enumerate(names):
                entry = Entry({column: float(figures[row]) for column, figures in columns.items()})
                self._journal.add(method, name, stamp=self._stamp(name, method), entry=entry)

    def _stamp(self, name: str, method: str) -> str:
        return self._stamps[name] + self._weights.get(method, "input")[:16]


def guarded(name: str, run: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    """Runs a command; what is wrong with its input becomes a line on stderr and the exit status 1.

    Args:
        name: Of the command.
        run: Gives the exit status.
        options: What it was asked.
    """
    try:
        return run(options)
    except (OSError, ValueError, ImportError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1


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

"""The restorers that a command is asked to measure: names, recipes, weights and their checksums."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from codeprior.commands._recipes import RECIPES, recipe
from codeprior.metrics.provenance import checksum
from codeprior.shapes import Image

Restore = Callable[[Image], Image]
"""Unit images to unit images."""


def load_methods(
    words: Sequence[str], *, size: int | None = None, batch: int = 16
) -> tuple[dict[str, Any], dict[str, dict[str, str]], int]:
    """Loads the restorers of a command.

    Args:
        words: `NAME=WEIGHTS`, a restorer of this recipe, or `NAME=RECIPE:WEIGHTS`.
        size: Side of the faces; the restorers' own where nothing is given, 512 without restorers.
        batch: Faces at once.

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
    return restorers, told, side


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

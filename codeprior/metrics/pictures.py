"""Pictures of a folder by name, read in the background while earlier ones are measured, and their features."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from codeprior.files import PICTURES
from codeprior.images import from_levels
from codeprior.photos import files
from codeprior.shapes import Image

T = TypeVar("T")


class FeatureRows(NamedTuple):
    """What `features_by_name` gives.

    Attributes:
        features: Picture to its features `d`.
        gone: Picture to the reason why it has none.
    """

    features: dict[str, Tensor]
    gone: dict[str, str]


def find_pictures(folder: str | Path) -> dict[str, Path]:
    """Gives the pictures of a folder by name: the path inside it, without the suffix, sorted.

    Args:
        folder: Walked to any depth.

    Raises:
        ValueError: It is no folder, has no picture, or two of its pictures have one name.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"evaluate: {folder} is no folder; give a folder of pictures.")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in PICTURES or not path.is_file():
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise ValueError(f"evaluate: {found[name]} and {path} have one name; keep one of them.")
        found[name] = path
    if not found:
        raise ValueError(f"evaluate: there is no picture in {folder}.")
    return found


def features_by_name(
    folder: str | Path,
    names: Sequence[str],
    network: Callable[[Image], Tensor],
    *,
    batch: int = 16,
    pattern: str = "{name}",
    advance: Callable[[int], object] = lambda count: None,
) -> FeatureRows:
    """Gives the features of pictures of a folder.

    Args:
        folder: Where they are.
        names: Paths inside it, with or without suffix.
        network: Unit images to features `b d`.
        batch: Pictures at once, where their sizes are equal.
        pattern: How the picture of `{name}` is called.
        advance: Called with the number of pictures read since the last call.

    Raises:
        ValueError: The folder has no picture, or the pattern lacks `{name}`.
    """
    head, tail = ends(pattern)
    pictures, found = find_pictures(folder), FeatureRows({}, {})
    waiting: dict[tuple, list[tuple[str, Image]]] = {}

    def look(rows: list[tuple[str, Image]]) -> None:
        try:
            with torch.inference_mode():
                features = network(torch.cat([image for _, image in rows])).cpu()
        except ValueError as error:
            found.gone.update({name: str(error).rstrip(".") for name, _ in rows})
            return
        found.features.update(zip([name for name, _ in rows], features.unbind(), strict=True))

    def read(name: str) -> tuple[str, Image | str]:
        key = renamed(name, head, tail)
        path = pictures.get(key) or pictures.get(Path(key).with_suffix("").as_posix())
        try:
            return name, "is missing" if path is None else as_image(files.read(path).pixels)
        except files.PhotoError as error:
            return name, error.reason

    for name, image in read_ahead(names, read):
        if isinstance(image, str):
            found.gone[name] = image
        else:
            waiting.setdefault(image.shape, []).append((name, image))
            if len(waiting[image.shape]) == batch:
                look(waiting.pop(image.shape))
        advance(1)
    for rows in waiting.values():
        look(rows)
    return found


def as_image(pixels: UInt8[np.ndarray, "H W 3"]) -> Image:
    """Gives pixels of a file as a unit batch of one.

    Args:
        pixels: `H W 3`, 8-bit levels.
    """
    return from_levels(pixels)[None]


def read_ahead(names: Iterable[str], read: Callable[[str], T]) -> Iterator[T]:
    """Gives `read` of every name in order, a few of them read in other threads while earlier ones are used.

    Args:
        names: What is read.
        read: A name to whatever it holds.
    """
    with ThreadPoolExecutor(2) as pool:
        running, rest = [], iter(names)
        for name in rest:
            running.append(pool.submit(read, name))
            if len(running) > 8:
                yield running.pop(0).result()
        for future in running:
            yield future.result()


def ends(pattern: str) -> tuple[str, str]:
    """Gives what stands before and after `{name}`.

    Args:
        pattern: How a picture is called.

    Raises:
        ValueError: `{name}` does not stand in it once.
    """
    if pattern.count("{name}") != 1:
        raise ValueError(f"evaluate: expected {{name}} once in the pattern, got {pattern!r}.")
    head, tail = pattern.split("{name}")
    return head, tail


def renamed(name: str, head: str, tail: str) -> str:
    """Gives the name with a head and a tail around its last part.

    Args:
        name: Path inside a folder, without suffix.
        head: What stands before.
        tail: What stands behind.
    """
    folder, slash, stem = name.rpartition("/")
    return f"{folder}{slash}{head}{stem}{tail}"


def original(name: str, head: str, tail: str) -> str:
    """Gives the name without head and tail, or nothing where it lacks them.

    Args:
        name: Path inside a folder, without suffix.
        head: What stands before.
        tail: What stands behind.
    """
    folder, slash, stem = name.rpartition("/")
    fits = stem.startswith(head) and stem.endswith(tail) and len(stem) > len(head) + len(tail)
    return f"{folder}{slash}{stem[len(head) : len(stem) - len(tail)]}" if fits else ""

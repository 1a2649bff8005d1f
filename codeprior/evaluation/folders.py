"""Folders of restored pictures against a folder of clean ones: paired by name, read, measured, kept in a journal.

Pictures that are missing, damaged or of another size than their truth are named, and never counted as zero.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from codeprior.metrics.journal import Entry, Journal
from codeprior.metrics.measures import Measure, score
from codeprior.metrics.pictures import as_image, ends, find_pictures, original, read_ahead, renamed
from codeprior.metrics.provenance import checksum
from codeprior.metrics.results import Results
from codeprior.photos import files
from codeprior.shapes import Image


class Folders(NamedTuple):
    """What is compared.

    Attributes:
        methods: Name to its pictures.
        truth: Clean pictures, or None.
        names: Pictures that every method should have.
    """

    methods: dict[str, dict[str, Path]]
    truth: dict[str, Path] | None
    names: list[str]


class Measured(NamedTuple):
    """What `measure_folders` gives.

    Attributes:
        results: Values and missing pictures.
        features: Method to features `n d` of the set network; empty without one.
    """

    results: Results
    features: dict[str, Tensor]


def pair_folders(
    methods: Mapping[str, str | Path], truth: str | Path | None = None, *, pattern: str = "{name}"
) -> Folders:
    """Pairs the pictures of methods with clean ones.

    Args:
        methods: Name to folder.
        truth: Folder of clean pictures; their names are the ones that count.
        pattern: How a restored picture is called where its truth is called `{name}`; DAEFR's scripts write `{name}_00`.

    Raises:
        ValueError: The pattern lacks `{name}`, a folder has no picture, or a method has no picture of any truth.
    """
    head, tail = ends(pattern)
    clean = None if truth is None else find_pictures(truth)
    found: dict[str, dict[str, Path]] = {}
    for method, folder in methods.items():
        pictures = find_pictures(folder)
        if clean is None:
            found[method] = {original(name, head, tail) or name: path for name, path in pictures.items()}
            continue
        found[method] = {name: pictures[key] for name in clean if (key := renamed(name, head, tail)) in pictures}
        if not found[method]:
            example = renamed(next(iter(clean)), head, tail)
            raise ValueError(
                f"evaluate: {folder} has no picture that is called like one of {truth}, such as {example}; "
                "give --pattern, such as {name}_00."
            )
    names = list(clean) if clean is not None else sorted({name for pictures in found.values() for name in pictures})
    return Folders(found, clean, names)


def measure_folders(
    folders: Folders,
    measures: Sequence[Measure],
    *,
    journal: Journal,
    batch: int = 8,
    set_network: Callable[[Image], Tensor] | None = None,
    groups: Mapping[str, str] | None = None,
    advance: Callable[[int], object] = lambda count: None,
) -> Measured:
    """Measures every picture of every method.

    Args:
        folders: What is compared.
        measures: The columns; those that compare are left out where there is no truth.
        journal: What is measured already, and where the rest is kept.
        batch: Pictures at once, where their sizes are equal.
        set_network: Network of set figures, such as `FIDInception`.
        groups: Image to its group, for the intervals.
        advance: Called with the number of pictures read since the last call.
    """
    columns = [measure for measure in measures if folders.truth is not None or measure.compare is None]
    results = Results(measures=columns, groups=groups)
    features: dict[str, list[Tensor]] = {method: [] for method in folders.methods}
    waiting: dict[tuple, list[_Work]] = {}

    def take(method: str, name: str, entry: Entry) -> None:
        if entry.missing:
            results.missing.setdefault(method, {})[name] = entry.missing
        results.add([name], {method: {column: [value] for column, value in entry.values.items()}})
        if entry.features is not None:
            features[method].append(entry.features)

    def measure(works: list[_Work]) -> None:
        for (method, name, stamp), entry in _measured(works, columns, set_network):
            journal.add(method, name, stamp=stamp, entry=entry)
            take(method, name, entry)

    for work in read_ahead(folders.names, lambda name: _read(folders, name, journal)):
        for method, reason in work.gone.items():
            results.missing.setdefault(method, {})[work.name] = reason
        for method, entry in work.known.items():
            take(method, work.name, entry)
        # of one size where there is a truth
        for shape in {picture.shape for picture in work.pictures.values()}:
            pictures = {method: picture for method, picture in work.pictures.items() if picture.shape == shape}
            key = (tuple(pictures), shape)
            waiting.setdefault(key, []).append(work._replace(pictures=pictures))
            if len(waiting[key]) == batch:
                measure(waiting.pop(key))
        advance(1)
    for works in waiting.values():
        measure(works)
    order = {name: place for place, name in enumerate(folders.names)}
    for method, rows in results.values.items():
        results.values[method] = dict(sorted(rows.items(), key=lambda row: order[row[0]]))
    return Measured(results, {method: torch.stack(rows) for method, rows in features.items() if rows})


class _Work(NamedTuple):
    name: str
    truth: Image | None
    pictures: dict[str, Image]  # by method, those that have to be measured
    stamps: dict[str, str]
    known: dict[str, Entry]
    gone: dict[str, str]


def _read(folders: Folders, name: str, journal: Journal) -> _Work:
    work = _Work(name, None, {}, {}, {}, {})
    todo: dict[str, Path] = {}
    source = None if folders.truth is None else folders.truth[name]
    for method, pictures in folders.methods.items():
        if name not in pictures:
            work.gone[method] = "is missing"
            continue
        work.stamps[method] = checksum(pictures[name])[:16] + ("" if source is None else checksum(source)[:16])
        if (entry := journal.find(method, name, work.stamps[method])) is not None:
            work.known[method] = entry
        else:
            todo[method] = pictures[name]
    if not todo:
        return work
    truth = None
    if source is not None:
        try:
            truth = as_image(files.read(source).pixels)
        except files.PhotoError as error:
            work.gone.update(dict.fromkeys(todo, f"its truth {error.reason}"))
            return work
    for method, path in todo.items():
        try:
            picture = as_image(files.read(path).pixels)
        except files.PhotoError as error:
            work.gone[method] = error.reason
            continue
        if truth is not None and picture.shape != truth.shape:
            sizes = " and its truth ".join(f"{image.shape[-1]}×{image.shape[-2]}" for image in (picture, truth))
            work.gone[method] = f"is {sizes} pixels"
        else:
            work.pictures[method] = picture
    return work._replace(truth=truth)


def _measured(
    works: list[_Work], measures: Sequence[Measure], set_network: Callable[[Image], Tensor] | None
) -> Iterator[tuple[tuple[str, str, str], Entry]]:
    methods = list(works[0].pictures)
    images = {method: torch.cat([work.pictures[method] for work in works]) for method in methods}
    truths = [work.truth for work in works if work.truth is not None]
    clean = torch.cat(truths) if truths else None
    found: dict[str, dict[str, list[float]]] = {method: {} for method in methods}
    refused = []
    for measure in measures:
        try:
            values = score([measure], images, clean)
        except ValueError as error:  # pictures that are too small for a column, or not square
            refused.append(str(error).rstrip("."))
            continue
        for method in methods:
            found[method][measure.name] = values[method][measure.name].tolist()
    for method in methods:
        with torch.inference_mode():
            features = None if set_network is None else set_network(images[method]).cpu()
        for place, work in enumerate(works):
            row = {name: column[place] for name, column in found[method].items()}
            yield (
                (method, work.name, work.stamps[method]),
                Entry(row, "; ".join(refused), None if features is None else features[place].clone()),
            )

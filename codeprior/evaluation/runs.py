"""A run: every method under every condition on the same faces, kept line by line in a journal.

Faces are the outer loop, because the features of a clean face serve all conditions and methods. Where a method is added
later, only that method is measured, and a run that was interrupted goes on where it stopped.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from codeprior.evaluation.cache import DegradedCache, cache_keys
from codeprior.evaluation.codes import Codes, shown_codes
from codeprior.evaluation.faces import Face, read_face
from codeprior.evaluation.methods import CLEAN, INPUT, Method
from codeprior.evaluation.sets import Condition
from codeprior.images import resize, to_signed
from codeprior.metrics.fidelity import eight_bit
from codeprior.metrics.journal import Entry, Journal
from codeprior.metrics.measures import Measure
from codeprior.metrics.results import Results
from codeprior.shapes import Image

EMBEDDING = "embedding"
"""Name of the kept identity embedding."""


class Pictures(NamedTuple):
    """The pictures of a batch, for a function that keeps them.

    Attributes:
        condition: Its name.
        faces: Which.
        images: `clean`, `input` and every method to `b 3 S S`, unit, 8-bit levels.
    """

    condition: str
    faces: list[Face]
    images: Mapping[str, Image]


@dataclass(kw_only=True)
class Run:
    """What a run gives.

    Args:
        results: Condition to values, by method, face and column.
        embeddings: Condition, method and face to identity embeddings; `clean` is a method here.
        codes: Condition and method to accuracy and use of codes, where a teacher says which are right.
        gone: Face to the reason why it could not be read.
    """

    results: dict[str, Results]
    embeddings: dict[str, dict[str, dict[str, Tensor]]] = field(default_factory=dict)
    codes: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    gone: dict[str, str] = field(default_factory=dict)


def run(
    folder: str | Path, conditions: Sequence[Condition], methods: Sequence[Method], *, measures: Sequence[Measure],
    size: int, degradation_size: int = 512, batch: int = 16, journal: Journal | None = None,
    cache: DegradedCache | None = None, teacher: nn.Module | None = None,
    keep: Callable[[Pictures], None] | None = None, advance: Callable[[int], object] = lambda count: None,
) -> Run:  # fmt: skip
    """Measures the input and every method under every condition.

    Args:
        folder: Where the clean faces are.
        conditions: Of the same faces, in the same order.
        methods: The rows of the tables besides `input`.
        measures: The columns.
        size: Side of the images, pixels.
        degradation_size: Side at which faces are degraded, pixels.
        batch: Faces at once.
        journal: What is measured already, and where the rest is kept.
        cache: Degraded faces on disk.
        teacher: The VQGAN whose codes are the truth for methods that predict codes.
        keep: Called with the pictures of every batch and condition; everything is then measured anew.
        advance: Called with the number of faces and conditions done since the last call.

    Raises:
        ValueError: There is no condition, or they are of different faces.
    """
    if not conditions or any(list(one.faces) != list(conditions[0].faces) for one in conditions):
        raise ValueError("run: expected one condition or more, all of the same faces.")
    faces, groups = conditions[0].faces, {face.name: face.identity for face in conditions[0].faces}
    found = Run(results={one.name: Results(measures=measures, groups=groups) for one in conditions})
    counted = Codes() if teacher is not None else None
    memory = _Memory(journal, conditions, methods, measures, codes=counted is not None, redo=keep is not None)
    for start in range(0, len(faces), batch):
        shown, todo = list(faces[start : start + batch]), []
        for face in shown:
            if memory.lacks(face):
                try:
                    todo.append((face, read_face(folder, face)))
                except ValueError as error:
                    found.gone[face.name] = str(error)
        if todo:
            part = _Batch(todo, measures, size, degradation_size, teacher)
            for condition in conditions:
                _measure(part, condition, memory=memory, cache=cache, keep=keep)
            memory.add_clean(part)
        for condition in conditions:
            for face in shown:
                if face.name in found.gone:
                    for method in (INPUT, *(one.name for one in methods)):
                        found.results[condition.name].missing.setdefault(method, {})[face.name] = found.gone[face.name]
                else:
                    _take(found, condition, face, memory, counted)
            advance(len(shown))
    for face in faces:
        for name in found.embeddings:
            if (entry := memory.clean(face)) is not None:
                found.embeddings[name].setdefault(CLEAN, {})[face.name] = entry.arrays[EMBEDDING]
    if counted is not None:
        found.codes = counted.summaries()
    return found


class _Batch:
    """A batch of clean faces; each column computes their features once, however many methods are compared."""

    def __init__(
        self, pairs: Sequence[tuple[Face, Image]], measures: Sequence[Measure], size: int, large: int,
        teacher: nn.Module | None,
    ):  # fmt: skip
        self.faces, self.size, self._side, self._measures = [face for face, _ in pairs], size, large, measures
        self._pixels = [pixels for _, pixels in pairs]
        self.unit = torch.cat([resize(pixels, size) for pixels in self._pixels])
        self.clean = eight_bit(self.unit)  # columns measure what a file would hold
        self._looks: dict[str, Any] = {}
        self._teacher, self._truth = teacher, None

    @torch.inference_mode()
    def entries(self, image: Image) -> list[Entry]:
        """Gives the values of a batch of images against the clean ones, and their embeddings."""
        values, arrays = {}, {}
        for measure in self._measures:
            seen = measure.look(image)
            if measure.compare is None:
                values[measure.name] = torch.as_tensor(seen).double()
                continue
            values[measure.name] = measure.compare(seen, self._look(measure)).double()
            if measure.name == "identity":
                arrays[EMBEDDING] = seen
        return [
            Entry({name: float(column[row]) for name, column in values.items()},
                  arrays={name: array[row].clone() for name, array in arrays.items()})
            for row in range(len(image))
        ]  # fmt: skip

    def embeddings(self) -> list[Tensor]:
        """Gives the identity embeddings of the clean faces; none where that column is not asked for."""
        return [row.clone() for measure in self._measures if measure.name == "identity" for row in self._look(measure)]

    def truth(self) -> Tensor | None:
        """Gives the teacher's codes of the clean faces."""
        if self._teacher is not None and self._truth is None:
            with torch.inference_mode():
                self._truth = self._teacher.encode(to_signed(self.unit)).indices  # pyright: ignore[reportCallIssue]
        return self._truth

    def degraded(self, condition: Condition, cache: DegradedCache | None) -> Image:
        """Gives the faces damaged, at the size of degradation."""
        keys = cache_keys(self.faces, condition.stamps(), condition=condition.chain, size=self._side)
        images = {face.name: cache.get(keys[face.name]) if cache else None for face in self.faces}
        rest = [row for row, face in enumerate(self.faces) if images[face.name] is None]
        if rest:
            large = torch.cat([resize(self._pixels[row], self._side) for row in rest])
            damaged = condition.degrade([self.faces[row].name for row in rest], large)
            for row, image in zip(rest, damaged, strict=True):
                images[self.faces[row].name] = image[None]
                if cache is not None:
                    cache.put(keys[self.faces[row].name], image[None])
        return torch.cat([image for image in images.values() if image is not None])

    @torch.inference_mode()
    def _look(self, measure: Measure) -> Any:
        if measure.name not in self._looks:
            self._looks[measure.name] = measure.look(self.clean)
        return self._looks[measure.name]


class _Memory:
    """What is measured already: in the journal where there is one, else in a dictionary."""

    def __init__(
        self, journal: Journal | None, conditions: Sequence[Condition], methods: Sequence[Method],
        measures: Sequence[Measure], *, codes: bool, redo: bool,
    ):  # fmt: skip
        self._journal, self._names = journal, {measure.name for measure in measures}
        self._methods = {INPUT: Method(name=INPUT, restore=lambda image: image, stamp=INPUT)}
        self._methods |= {method.name: method for method in methods}
        self._stamps = {one.name: (one.chain, one.stamps()) for one in conditions}
        self._codes, self._redo = codes, redo
        self._here: dict[tuple[str, str, str], Entry] = {}

    @property
    def methods(self) -> list[Method]:
        return list(self._methods.values())

    def lacks(self, face: Face) -> bool:
        return any(self.wants(method, name, face) for name in self._stamps for method in self.methods)

    def wants(self, method: Method, condition: str, face: Face) -> bool:
        entry = self.find(method, condition, face)
        return entry is None or not self._names <= entry.values.keys()

    def find(self, method: Method, condition: str, face: Face) -> Entry | None:
        picture, stamp = self._place(method, condition, face)
        if (entry := self._here.get((method.name, picture, stamp))) is not None:
            return entry
        if self._journal is None or self._redo or not method.stamp:
            return None
        entry = self._journal.find(method.name, picture, stamp)
        counted = entry is not None and (not self._codes or method.model is None or shown_codes(entry))
        return entry if counted else None

    def add(self, method: Method, condition: str, face: Face, entry: Entry) -> None:
        picture, stamp = self._place(method, condition, face)
        self._here[method.name, picture, stamp] = entry
        if self._journal is not None and method.stamp:
            self._journal.add(method.name, picture, stamp=stamp, entry=entry)

    def add_clean(self, part: _Batch) -> None:
        """Keeps the embeddings of the clean faces, by which pairs of pictures are compared."""
        for face, embedding in zip(part.faces, part.embeddings(), strict=False):
            if self._journal is None or self._journal.find(CLEAN, *self._place_clean(face)) is None:
                self._remember(CLEAN, *self._place_clean(face), Entry({}, arrays={EMBEDDING: embedding}))

    def clean(self, face: Face) -> Entry | None:
        picture, stamp = self._place_clean(face)
        found = self._here.get((CLEAN, picture, stamp))
        return found or (None if self._journal is None else self._journal.find(CLEAN, picture, stamp))

    def _place_clean(self, face: Face) -> tuple[str, str]:
        return f"{CLEAN}/{face.name}", face.sha256[:16]

    def _remember(self, method: str, picture: str, stamp: str, entry: Entry) -> None:
        self._here[method, picture, stamp] = entry
        if self._journal is not None:
            self._journal.add(method, picture, stamp=stamp, entry=entry)

    def _place(self, method: Method, condition: str, face: Face) -> tuple[str, str]:
        if method.takes == "clean":  # the same under every condition
            return f"{CLEAN}/{face.name}", f"{face.sha256[:16]}{method.stamp}"
        chain, stamps = self._stamps[condition]
        conditions_digest = hashlib.sha256(f"{chain} {stamps[face.name]}".encode()).hexdigest()[:16]
        return f"{condition}/{face.name}", f"{conditions_digest}{method.stamp}"


def _measure(
    part: _Batch, condition: Condition, *, memory: _Memory, cache: DegradedCache | None,
    keep: Callable[[Pictures], None] | None,
) -> None:  # fmt: skip
    wanted = [one for one in memory.methods if any(memory.wants(one, condition.name, face) for face in part.faces)]
    if not wanted:
        return
    images: dict[str, Image] = {}
    large = part.degraded(condition, cache) if any(one.takes != "clean" for one in wanted) else None
    degraded = None if large is None else resize(large, part.size)
    for method in wanted:
        shown = {"degraded": degraded, "large": large, "clean": part.unit}[method.takes]
        assert shown is not None
        codes = None
        if method.model is not None and (truth := part.truth()) is not None:
            image, codes = Codes.restored(method, shown, truth)
        else:
            image = method.restore(shown)
        images[method.name] = eight_bit(image)
        entries = part.entries(images[method.name])
        for row, face in enumerate(part.faces):
            entry = entries[row]
            if codes is not None:
                entry = entry._replace(arrays={**entry.arrays, **codes[row]})
            memory.add(method, condition.name, face, entry)
    if keep is not None:
        keep(Pictures(condition.name, part.faces, {CLEAN: part.clean, **images}))


def _take(found: Run, condition: Condition, face: Face, memory: _Memory, counted: Codes | None) -> None:
    results = found.results[condition.name]
    for method in memory.methods:
        entry = memory.find(method, condition.name, face)
        assert entry is not None
        columns = {measure.name: [entry.values[measure.name]] for measure in results.measures}
        results.add([face.name], {method.name: columns})
        if EMBEDDING in entry.arrays:
            rows = found.embeddings.setdefault(condition.name, {}).setdefault(method.name, {})
            rows[face.name] = entry.arrays[EMBEDDING]
        if counted is not None and method.model is not None:
            counted.add(condition.name, method, entry)

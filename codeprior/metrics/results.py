"""The results of an evaluation: values by method, image and measure.

An image without a value has an empty cell and is never counted as zero.
"""

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from codeprior.metrics.measures import Measure
from codeprior.metrics.provenance import Provenance
from codeprior.metrics.statistics import Comparison, Summary, compare, summarise


class SetFigure(NamedTuple):
    """A figure of a method's images together, such as FID.

    Attributes:
        value: Smaller is better.
        count: Images.
    """

    value: float
    count: int


@dataclass(kw_only=True)
class Results:
    """A growing table of values; `add` fills it, the rest reads it.

    Args:
        measures: The columns.
        settings: What made the results, JSON values: set, weights, versions. Written with them.
        groups: Image to the group it belongs to, such as the person, for the intervals.
        values: Method, image and column to value.
        missing: Method and image to the reason why it has no value.
        sets: Method and name to figures of all its images together.
        set_records: Name of such a figure to what made it.
        truths: Number of clean images; where given, the means of the reference, which divides by it, are added.
    """

    measures: Sequence[Measure]
    settings: dict[str, Any] = field(default_factory=dict)
    groups: Mapping[str, str] | None = None
    values: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)  # method, image, column
    missing: dict[str, dict[str, str]] = field(default_factory=dict)  # method, image, reason
    sets: dict[str, dict[str, SetFigure]] = field(default_factory=dict)  # method, figure of all its images together
    set_records: dict[str, Provenance] = field(default_factory=dict)  # figure, what made it
    truths: int | None = None  # clean images, which the reference divides by; None leaves its means out

    def add(self, names: Sequence[str], scores: Mapping[str, Mapping[str, Iterable[float] | Tensor]]) -> None:
        """Adds what `score` gave for a batch; a value that is not a number is named as missing, with its reason.

        Args:
            names: The images of the batch.
            scores: Method to column to values.
        """
        undefined = {measure.name: measure.undefined for measure in self.measures}
        for method, columns in scores.items():
            rows = self.values.setdefault(method, {})
            for column, values in columns.items():
                for name, value in zip(names, values, strict=True):
                    rows.setdefault(name, {})[column] = float(value)
                    if math.isnan(rows[name][column]):
                        gone = self.missing.setdefault(method, {})
                        reason = f"{column}: {undefined.get(column, 'gave no number')}"
                        gone[name] = f"{gone[name]}; {reason}" if name in gone else reason

    def images(self) -> list[str]:
        """Gives the images that at least one method has, in order of appearance."""
        return list(dict.fromkeys(name for rows in self.values.values() for name in rows))

    def column(self, method: str, measure: str) -> list[float]:
        """Gives the values of a method in the order of `images`, NaN where there is none."""
        rows = self.values[method]
        return [rows.get(name, {}).get(measure, math.nan) for name in self.images()]

    def summaries(self, *, seed: int = 0) -> dict[str, dict[str, Summary]]:
        """Gives the mean of each method and column that has values, with standard error and 95 % interval."""
        named = self._groups()
        return {
            method: {
                measure.name: summarise(column, torch.Generator().manual_seed(seed), groups=named)
                for measure in self.measures
                if not all(map(math.isnan, column := self.column(method, measure.name)))
            }
            for method in self.values
        }

    def official_means(self) -> dict[str, dict[str, float]]:
        """Gives the sums of each method and column divided by the clean images, as the reference averages.

        Raises:
            ValueError: `truths` is not set.
        """
        if not self.truths:
            raise ValueError("Results: expected truths, the number of clean images, to average as the reference does.")
        found: dict[str, dict[str, float]] = {}
        for method in self.values:
            kept = {
                measure.name: [value for value in self.column(method, measure.name) if not math.isnan(value)]
                for measure in self.measures
            }
            found[method] = {name: sum(values) / self.truths for name, values in kept.items() if values}
        return found

    def comparisons(self, baseline: str, *, seed: int = 0) -> dict[str, dict[str, Comparison]]:
        """Gives every other method minus `baseline`, image by image.

        Raises:
            ValueError: There is no method of that name.
        """
        if baseline not in self.values:
            raise ValueError(f"Results: expected a method of {', '.join(self.values)}, got {baseline!r}.")
        named, found = self._groups(), {}
        for method in self.values:
            if method == baseline:
                continue
            found[method] = {}
            for measure in self.measures:
                first, second = self.column(method, measure.name), self.column(baseline, measure.name)
                if any(not (math.isnan(a) or math.isnan(b)) for a, b in zip(first, second, strict=True)):
                    found[method][measure.name] = compare(
                        first, second, torch.Generator().manual_seed(seed), groups=named,
                        higher_is_better=measure.higher_is_better,
                    )  # fmt: skip
        return found

    def as_csv(self) -> str:
        """Gives one row per image and method; empty cells where there is no value."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["method", "image", *(measure.name for measure in self.measures), "missing"])
        for method in dict.fromkeys([*self.values, *self.missing]):
            rows, gone = self.values.get(method, {}), self.missing.get(method, {})
            for name in dict.fromkeys([*rows, *gone]):
                cells = [rows.get(name, {}).get(measure.name) for measure in self.measures]
                written = ["" if value is None or math.isnan(value) else repr(value) for value in cells]
                writer.writerow([cell(method), cell(name), *written, cell(gone.get(name, ""))])
        return text.getvalue()

    def as_json(self, *, baselines: Sequence[str] = ()) -> dict[str, Any]:
        """Gives settings, provenance, summaries and comparisons as JSON values; infinities become text."""
        return _plain(
            {
                "settings": self.settings,
                "measures": {
                    measure.name: {
                        "unit": measure.unit,
                        "better": "higher" if measure.higher_is_better else "lower",
                        **measure.record.as_dict(),
                    }
                    for measure in self.measures
                },
                "summaries": {
                    method: {column: summary._asdict() for column, summary in columns.items()}
                    for method, columns in self.summaries().items()
                },
                "comparisons": {
                    baseline: {
                        method: {column: comparison._asdict() for column, comparison in columns.items()}
                        for method, columns in self.comparisons(baseline).items()
                    }
                    for baseline in baselines
                },
                "sets": {
                    method: {name: figure._asdict() for name, figure in figures.items()}
                    for method, figures in self.sets.items()
                },
                "set_measures": {name: record.as_dict() for name, record in self.set_records.items()},
                "official_means": self.official_means() if self.truths else None,
                "missing": self.missing,
            }
        )

    def _groups(self) -> list[str] | None:
        return None if self.groups is None else [self.groups.get(name, name) for name in self.images()]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value


def cell(text: str) -> str:
    """Gives a cell of a CSV file that a spreadsheet shows as text: what begins like a formula gets an apostrophe.

    Args:
        text: A name, or a reason.
    """
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text

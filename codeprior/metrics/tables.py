"""Results as files, and as tables for people: Markdown that can be pasted, and the same cells for a page."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from codeprior import files
from codeprior.metrics.measures import Measure
from codeprior.metrics.provenance import Provenance
from codeprior.metrics.results import Results, SetFigure
from codeprior.metrics.statistics import Comparison, Summary


class Table(NamedTuple):
    """Cells under headings.

    Attributes:
        caption: What the cells are; empty where the headings say it.
        heading: One text per column.
        rows: One text per cell.
    """

    caption: str
    heading: list[str]
    rows: list[list[str]]


def write_results(folder: str | Path, results: Results, *, baselines: Sequence[str] = ()) -> None:
    """Writes `scores.csv`, a row per image and method; `results.json`, what made it included; `results.md`, the tables.

    Args:
        folder: Made where it is not there; files of these names are replaced.
        results: What was measured.
        baselines: Methods that the others are compared with, one after the other.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    files.write(folder / "scores.csv", results.as_csv(), overwrite=True)
    text = json.dumps(results.as_json(baselines=baselines), indent=1, ensure_ascii=False, allow_nan=False)
    files.write(folder / "results.json", text + "\n", overwrite=True)
    files.write(folder / "results.md", results_markdown(results, baselines=baselines), overwrite=True)


def results_markdown(results: Results, *, baselines: Sequence[str] = ()) -> str:
    """Gives means ± standard errors with intervals, then every method against the baselines, and what made them.

    Args:
        results: What was measured.
        baselines: Methods that the others are compared with, a table each.
    """
    return markdown(tables(results, baselines=baselines), notes(results))


def tables(results: Results, *, baselines: Sequence[str] = ()) -> list[Table]:
    """Gives the tables of results: means, comparisons with the baselines, and the reference's own means.

    Args:
        results: What was measured.
        baselines: Methods that the others are compared with, a table each.

    Returns:
        Means ± standard errors with 95 % intervals; then mean differences with intervals and shares of wins, where
        there is another method than the baseline; then the reference's means, where they are asked for.
    """
    measures, figures = results.measures, list(dict.fromkeys(name for row in results.sets.values() for name in row))
    columns = [_heading(measure) for measure in measures]
    summaries, rows = results.summaries(), []
    for method in dict.fromkeys([*summaries, *results.sets, *results.missing]):
        found = summaries.get(method, {})
        counts = sorted({summary.count for summary in found.values()})
        cells = [_mean(found.get(measure.name)) for measure in measures]
        cells += [_figure(results.sets.get(method, {}).get(name)) for name in figures]
        rows.append([method, *cells, "/".join(map(str, counts)) or "0"])
    made = [
        Table(
            "Mean ± standard error [95 % interval].", ["method", *columns, *(f"{f} ↓" for f in figures), "images"], rows
        )
    ]
    for baseline in baselines if len(results.values) > 1 else ():
        rows = [
            [method, *(_difference(found.get(measure.name)) for measure in measures)]
            for method, found in results.comparisons(baseline).items()
        ]
        caption = f"Against {baseline}, image by image: mean difference [95 % interval], share of wins."
        made.append(Table(caption, ["method", *columns], rows))
    if results.truths:
        rows = [
            [method, *(_number(found[measure.name]) if measure.name in found else "–" for measure in measures)]
            for method, found in results.official_means().items()
        ]
        caption = f"As the reference averages: sums over the images found, divided by {results.truths} clean ones."
        made.append(Table(caption, ["method", *columns], rows))
    return made


def notes(results: Results) -> list[str]:
    """Gives a sentence for the missing images of each method, then what made each column.

    Args:
        results: What was measured.
    """
    gone = [
        f"Missing of {method}, in no mean: {'; '.join(f'{name} ({reason})' for name, reason in missing.items())}."
        for method, missing in results.missing.items()
        if missing
    ]
    made = [f"{measure.name}: {source(measure.record)}" for measure in results.measures]
    return gone + made + [f"{name}: {source(record)}" for name, record in results.set_records.items()]


def source(record: Provenance) -> str:
    """Gives one line of what made a figure: network, note, weights with checksum, package and version, colours.

    Args:
        record: Of the column.
    """
    fields = record.as_dict()
    parts = [fields["network"], fields["note"]]
    if fields["sha256"]:
        parts += [fields["weights"], f"sha256 {fields['sha256'][:12]}…"]
    parts += [fields["package"], fields["colours"] if fields["sha256"] else ""]
    return ", ".join(part for part in parts if part and part != "none") or "pixels"


def markdown(made: Sequence[Table], remarks: Sequence[str]) -> str:
    """Gives tables and remarks as Markdown.

    Args:
        made: The tables.
        remarks: A sentence each; they become a list below.
    """
    lines: list[str] = []
    for table in made:
        lines += [
            _row(table.heading),
            _row(["---"] * len(table.heading)),
            *map(_row, table.rows),
            "",
            table.caption,
            "",
        ]
    return "\n".join([*lines, *(f"- {remark}" for remark in remarks)]) + "\n"


def _heading(measure: Measure) -> str:
    unit = f" ({measure.unit})" if measure.unit else ""
    return f"{measure.name}{unit} {'↑' if measure.higher_is_better else '↓'}"


def _mean(summary: Summary | None) -> str:
    if summary is None:
        return "–"
    places = _places(summary.mean)
    if math.isnan(summary.standard_error):
        return f"{summary.mean:.{places}f}"
    mean, error, low, high = (f"{value:.{places}f}" for value in summary[:4])
    return f"{mean} ± {error} [{low}, {high}]"


def _difference(comparison: Comparison | None) -> str:
    if comparison is None:
        return "–"
    places = _places(max(abs(comparison.low), abs(comparison.high)))
    mean, low, high = (f"{value:+.{places}f}" for value in comparison[:3])
    return f"{mean} [{low}, {high}], {comparison.wins:.0%}"


def _figure(figure: SetFigure | None) -> str:
    return "–" if figure is None else _number(figure.value)


def _number(value: float) -> str:
    return f"{value:.{_places(value)}f}"


def _places(size: float) -> int:
    return 2 if math.isfinite(size) and abs(size) >= 5 else 4


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

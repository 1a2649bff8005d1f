"""Quality against severity: every level of every sweep measured, with its rows, tables and one plot."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any, NamedTuple

from codeprior import files
from codeprior.evaluation.faces import Chosen
from codeprior.evaluation.methods import Method
from codeprior.evaluation.runs import run
from codeprior.evaluation.session import versions_of
from codeprior.evaluation.sweeps import Sweep, levels
from codeprior.extras import needed
from codeprior.metrics.journal import Journal
from codeprior.metrics.measures import Measure
from codeprior.metrics.results import Results, Summary, cell
from codeprior.metrics.tables import Table, markdown, source

SEVERITY_FILES = ("severity.csv", "severity.json", "severity.md", "severity.png", "journal.jsonl")
"""What `measure_severity` writes."""


class Severity(NamedTuple):
    """What `measure_severity` gives.

    Attributes:
        results: By sweep and level.
        gone: Name of a face that was not measured to the reason.
        text: The tables, Markdown.
    """

    results: dict[tuple[str, float], Results]
    gone: dict[str, str]
    text: str


def measure_severity(
    folder: str | Path,
    chosen: Chosen,
    sweeps: Sequence[Sweep],
    methods: Sequence[Method],
    measures: Sequence[Measure],
    *,
    size: int,
    out: str | Path,
    seed: int = 0,
    batch: int = 8,
    advance: Callable[[int], object] = lambda count: None,
) -> Severity:
    """Measures methods at every level of every sweep, and writes rows, summaries, tables and the plot.

    Args:
        folder: Where the clean faces are.
        chosen: Which faces.
        sweeps: Parameters and levels, in the order of the panels.
        methods: The rows besides `input`.
        measures: The columns.
        size: Side of the images, pixels.
        out: Folder of the results; what an earlier run has measured there is not measured again.
        seed: Of the noise.
        batch: Faces at once.
        advance: Called with the number of faces done since the last call.

    Raises:
        ValueError: No face could be read.
        ImportError: matplotlib is not installed.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    versions = versions_of("torch", "numpy", "opencv-python-headless")
    settings: dict[str, Any] = {"size": size, "degradation_size": 512, "seed": seed, "versions": versions}
    key = settings | {"columns": {measure.name: measure.record.as_dict() for measure in measures}}
    conditions = levels(sweeps, chosen.faces, seed=seed)
    with Journal(out / "journal.jsonl", key=key) as journal:
        found = run(
            folder, list(conditions.values()), methods, measures=measures, size=size, batch=batch, journal=journal,
            advance=advance,
        )  # fmt: skip
    if len(found.gone) == len(chosen.faces):
        raise ValueError(f"no face of {folder} could be read.")
    results = {place: found.results[one.name] for place, one in conditions.items()}
    gone = {**chosen.unreadable, **found.gone}
    settings |= {
        "methods": {method.name: dict(method.about) for method in methods},
        "faces": len(chosen.faces) - len(found.gone),
        "identities": len({face.identity for face in chosen.faces}),
    }
    return Severity(results, gone, _write(out, results, sweeps, settings=settings, gone=gone))


def plot_severity(path: str | Path, results: Mapping[tuple[str, float], Results], sweeps: Sequence[Sweep]) -> None:
    """Draws one panel per measure and sweep: mean of each method with its 95 % interval, milder to the left.

    Args:
        path: A PNG; an existing file is replaced. A link is replaced itself; what it points to is left.
        results: By sweep and level.
        sweeps: In the order of the panels.

    Raises:
        ImportError: matplotlib is not installed.
    """
    backend = needed("matplotlib.backends.backend_agg", who="the plot of severities")
    measures = next(iter(results.values())).measures
    figures = needed("matplotlib.figure", who="the plot of severities")
    figure = figures.Figure(figsize=(3.4 * len(sweeps), 2.4 * len(measures)), layout="constrained")
    panels = figure.subplots(len(measures), len(sweeps), squeeze=False, sharex="col", sharey="row")
    found = {key: result.summaries() for key, result in results.items()}
    for row, measure in enumerate(measures):
        for column, sweep in enumerate(sweeps):
            axes, places = panels[row][column], list(range(len(sweep.levels)))
            methods = list(found[sweep.name, sweep.levels[0]])
            for order, method in enumerate(methods):
                shown = [found[sweep.name, level].get(method, {}).get(measure.name) for level in sweep.levels]
                kept = [(place, one) for place, one in zip(places, shown, strict=True) if one is not None]
                at = [place for place, _ in kept]
                # later lines are thinner, so that they do not hide those below them
                width = 1.5 * (len(methods) - order if order else 1)
                means = [one.mean for _, one in kept]
                (line,) = axes.plot(at, means, marker="o", markersize=3, linewidth=width, label=method)
                low, high = [one.low for _, one in kept], [one.high for _, one in kept]
                axes.fill_between(at, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
            axes.set_xticks(places, [f"{level:g}" for level in sweep.levels])
            axes.grid(alpha=0.3)
        panels[row][0].set_ylabel(f"{measure.name} {'↑' if measure.higher_is_better else '↓'}")
    for column, sweep in enumerate(sweeps):
        panels[-1][column].set_xlabel(f"{sweep.name} ({sweep.unit})")
    panels[0][0].legend(fontsize="small")
    encoded = BytesIO()
    backend.FigureCanvasAgg(figure).print_png(encoded)
    files.write(path, encoded.getvalue(), overwrite=True)


def _write(
    out: Path, results: Mapping[tuple[str, float], Results], sweeps: Sequence[Sweep], *,
    settings: Mapping[str, Any], gone: Mapping[str, str],
) -> str:  # fmt: skip
    measures = next(iter(results.values())).measures
    lines = StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(["sweep", "level", "method", "image", *(measure.name for measure in measures)])
    for (name, level), result in results.items():
        for method, rows in result.values.items():
            for image, row in rows.items():
                figures = (repr(row[measure.name]) for measure in measures)
                writer.writerow([name, f"{level:g}", cell(method), cell(image), *figures])
    files.write(out / "severity.csv", lines.getvalue(), overwrite=True)
    found = {key: result.summaries() for key, result in results.items()}
    content = {
        "settings": settings,
        "measures": {measure.name: measure.record.as_dict() for measure in measures},
        "summaries": [
            {"sweep": name, "level": level, "method": method, "column": column, **summary._asdict()}
            for (name, level), methods in found.items()
            for method, columns in methods.items()
            for column, summary in columns.items()
        ],
        "missing": gone,
    }
    files.write(out / "severity.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n", overwrite=True)
    text = markdown(_tables(found, sweeps, measures), [f"{one.name}: {source(one.record)}" for one in measures])
    files.write(out / "severity.md", text, overwrite=True)
    plot_severity(out / "severity.png", results, sweeps)
    return text


def _tables(
    found: Mapping[tuple[str, float], Mapping[str, Mapping[str, Summary]]],
    sweeps: Sequence[Sweep],
    measures: Sequence[Measure],
) -> list[Table]:
    made = []
    for sweep in sweeps:
        for measure in measures:
            rows = []
            for method in found[sweep.name, sweep.levels[0]]:
                shown = [found[sweep.name, level][method][measure.name] for level in sweep.levels]
                places = 2 if abs(shown[0].mean) >= 5 else 4
                rows.append([method, *(f"{one.mean:.{places}f} ± {one.standard_error:.{places}f}" for one in shown)])
            arrow = "↑" if measure.higher_is_better else "↓"
            heading = [f"{measure.name} {arrow}", *(f"{level:g}" for level in sweep.levels)]
            made.append(Table(f"{sweep.name} alone, {sweep.unit}; mean ± standard error.", heading, rows))
    return made

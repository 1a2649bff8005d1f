"""Quality against severity: each degradation parameter swept alone, one figure from one command.

    python -m codeprior.recipes.daefr.severity --faces FOLDER --split test --limit 32 --out OUT \
        --method "single encoder=single.safetensors" --method "DAEFR=daefr.safetensors"

For each level of blur, reduction, noise and JPEG the faces are degraded by that alone, at 512 px, then brought to the
models' size as everywhere in this recipe. OUT gets one row an image and level (`severity.csv`), means with intervals
and provenance (`severity.json`), tables (`severity.md`) and the plot (`severity.png`). What an interrupted run has
measured is kept in `journal.jsonl` and not measured again, so a method that is added later costs only itself.
"""

import argparse
import csv
import json
from collections.abc import Mapping, Sequence
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

from tqdm import tqdm

from codeprior import evaluation, files, metrics
from codeprior.commands._outputs import check_outputs
from codeprior.commands._printing import say, say_lines
from codeprior.evaluation import SWEEPS, Sweep
from codeprior.evaluation.session import versions_of
from codeprior.extras import needed
from codeprior.metrics.measures import Measure
from codeprior.metrics.results import cell
from codeprior.metrics.tables import Table, markdown, source

from .evaluate import asked_columns, asked_methods, guarded

_RESULTS = ("severity.csv", "severity.json", "severity.md", "severity.png", "journal.jsonl")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; gives its exit status: 0 all measured, 1 nothing could be, 3 some faces were left out."""
    return guarded("severity", _run, _parser().parse_args(arguments))


def plot(path: Path, results: Mapping[tuple[str, float], metrics.Results], sweeps: Sequence[Sweep]) -> None:
    """Draws one panel a measure and sweep: mean of each method with its 95 % interval, milder to the left.

    Args:
        path: A PNG; an existing file is replaced, and a link itself, never what it points to.
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
                # later lines are thinner, so that they hide none below them
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


def _run(options: argparse.Namespace) -> int:
    measures = asked_columns("severity", options)
    methods, size = asked_methods(options.method, size=options.size, batch=options.batch)
    names = options.sweep or [sweep.name for sweep in SWEEPS]
    sweeps = [sweep for sweep in SWEEPS if sweep.name in names]
    faces, unreadable = evaluation.chosen_faces(options.faces, split=options.split, limit=options.limit)
    check_outputs(options.out, _RESULTS, marker="journal.jsonl", keys=("columns",), overwrite=options.overwrite)
    options.out.mkdir(parents=True, exist_ok=True)
    versions = versions_of("torch", "numpy", "opencv-python-headless")
    settings: dict[str, Any] = {"size": size, "degradation_size": 512, "seed": options.seed, "versions": versions}
    key = settings | {"columns": {measure.name: measure.record.as_dict() for measure in measures}}
    conditions = evaluation.levels(sweeps, faces, seed=options.seed)
    with (
        metrics.Journal(options.out / "journal.jsonl", key=key) as journal,
        tqdm(total=len(faces), unit="face", desc="severity", disable=None) as bar,
    ):
        found = evaluation.run(
            options.faces, list(conditions.values()), methods, measures=measures, size=size, batch=options.batch,
            journal=journal, advance=bar.update,
        )  # fmt: skip
    results, gone = {key: found.results[one.name] for key, one in conditions.items()}, found.gone
    if len(gone) == len(faces):
        raise ValueError(f"no face of {options.faces} could be read.")
    settings |= {
        "methods": {method.name: dict(method.about) for method in methods},
        "faces": len(faces) - len(gone),
        "identities": len({face.identity for face in faces}),
    }
    _write(options.out, results, sweeps, settings=settings, gone=unreadable | gone)
    for name, reason in (unreadable | gone).items():
        say(f"severity: {name}: {reason}", error=True)
    return 3 if unreadable or gone else 0


def _write(
    out: Path, results: Mapping[tuple[str, float], metrics.Results], sweeps: Sequence[Sweep], *,
    settings: Mapping[str, Any], gone: Mapping[str, str],
) -> None:  # fmt: skip
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
    plot(out / "severity.png", results, sweeps)
    say_lines(text)


def _tables(
    found: Mapping[tuple[str, float], Mapping[str, Mapping[str, metrics.Summary]]],
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="severity", description="Sweeps each degradation parameter alone.")
    parser.add_argument("--faces", required=True, type=Path, help="folder of clean aligned faces")
    parser.add_argument("--split", help="only this split of the folder's index.csv")
    parser.add_argument("--out", required=True, type=Path, help="folder of the results")
    parser.add_argument("--method", action="append", default=[], metavar="NAME=[RECIPE:]WEIGHTS", help="a restorer")
    parser.add_argument("--sweep", action="append", choices=[sweep.name for sweep in SWEEPS], help="repeatable (all)")
    parser.add_argument("--columns", metavar="A,B", help=f"of {', '.join(metrics.column_names())}")
    parser.add_argument("--weights", type=Path, metavar="FOLDER", help="downloaded weights: VGG-16, ArcFace")
    parser.add_argument("--limit", type=int, help="at most so many faces, spread evenly")
    parser.add_argument("--overwrite", action="store_true", help="replace files in --out that this command never wrote")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (0)")
    parser.add_argument("--size", type=int, help="pixels; the restorers' own where nothing is given")
    parser.add_argument("--batch", type=int, default=8, help="faces at once (8)")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())

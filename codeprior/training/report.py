"""The report of a run: one HTML file with its facts, curves and pictures.

It is made from `log.jsonl` and `previews/` alone, so that it can be made again, also for a run that was interrupted.
"""

import base64
import html
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codeprior import files
from codeprior.training.watch import Log

_WIDTH, _HEIGHT, _POINTS = 320, 120, 400
_NOT_METRICS = {"step", "time", "event", "elapsed", "steps_per_second", "bitwise", "damaged", "numbers"}
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; } td, th { text-align: left; padding: .15rem .9rem .15rem 0; }
.curves { display: flex; flex-wrap: wrap; gap: 1.2rem; } figure { margin: 0; } figcaption { font-size: 13px; }
svg { background: #8881; } polyline { fill: none; stroke: #3657c8; stroke-width: 1.5; } img { max-width: 100%; }
"""


def write_report(folder: str | Path, *, facts: Mapping[str, Any] | None = None) -> Path:
    """Writes `report.html` into the folder of a run: facts, a curve for every metric, first, middle and last pictures.

    Args:
        folder: Of a run, see `train`.
        facts: Further rows of the table, by name.

    Returns:
        The file; an existing one is replaced in one step. It refers to no other file.

    Raises:
        ValueError: The run has no log.
    """
    folder = Path(folder)
    lines = Log(folder / "log.jsonl").read()
    if not lines:
        raise ValueError(f"write_report: {folder} holds no log.jsonl with lines; give the folder of a run.")
    points = [line for line in lines if "event" not in line]
    names = [name for name in dict.fromkeys(key for line in points for key in line) if name not in _NOT_METRICS]
    curves = {name: [(line["step"], float(line[name])) for line in points if name in line] for name in names}
    rows = _facts(lines, points) | dict(facts or {})
    body = [
        f"<h1>{_text(folder.resolve().name)}</h1>",
        _table([("", "")], [(name, _number(value)) for name, value in rows.items()]),
        "<h2>Metrics</h2>",
        _table([("metric", "last", "lowest", "highest")], [_summary(name, curve) for name, curve in curves.items()]),
        "<h2>Curves</h2>",
        f'<div class="curves">{"".join(_curve(name, curve) for name, curve in curves.items())}</div>',
        *_pictures(sorted((folder / "previews").glob("step-*.png"))),
    ]
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>'
        f"{_text(folder.resolve().name)}</title><style>{_STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )
    path = folder / "report.html"
    files.write(path, page, overwrite=True)
    return path


def _facts(lines: Sequence[Mapping[str, Any]], points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    resumed = [line for line in lines if line.get("event") == "resumed"]
    facts: dict[str, Any] = {"steps": lines[-1]["step"], "first line": lines[0]["time"], "last line": lines[-1]["time"]}
    if points:
        facts["steps a second"] = points[-1].get("steps_per_second", "")
    facts["resumed"] = f"{len(resumed)} times" + (
        "" if all(line.get("bitwise") for line in resumed) else ", not always to the bit (another number of ranks)"
    )
    damaged = [reason for line in resumed for reason in line.get("damaged", [])]
    return facts | ({"damaged checkpoints passed over": "; ".join(damaged)} if damaged else {})


def _summary(name: str, curve: Sequence[tuple[int, float]]) -> tuple[str, ...]:
    finite = [point for point in curve if math.isfinite(point[1])]
    if not finite:
        return name, _number(curve[-1][1]), "", ""
    low, high = min(finite, key=lambda point: point[1]), max(finite, key=lambda point: point[1])
    return name, _number(curve[-1][1]), *(f"{_number(value)} at {step}" for step, value in (low, high))


def _curve(name: str, curve: Sequence[tuple[int, float]]) -> str:
    finite = [point for point in curve if math.isfinite(point[1])]
    kept = [*finite[:: max(1, len(finite) // _POINTS)], *finite[-1:]]
    steps, values = [step for step, _ in kept] or [0], [value for _, value in kept] or [0.0]
    left, low = min(steps), min(values)
    width, height = max(steps) - left or 1, max(values) - low or 1.0
    places = [
        f"{(step - left) / width * _WIDTH:.1f},{_HEIGHT - (value - low) / height * _HEIGHT:.1f}"
        for step, value in kept
    ]  # fmt: skip
    return (
        f'<figure><svg width="{_WIDTH}" height="{_HEIGHT}" viewBox="0 -2 {_WIDTH} {_HEIGHT + 4}" role="img" '
        f'aria-label="{_text(name)}"><polyline points="{" ".join(places)}"/></svg><figcaption><b>{_text(name)}</b> '
        f"{_number(low)} to {_number(low + height)}, steps {left} to {max(steps)}</figcaption></figure>"
    )


def _pictures(paths: Sequence[Path]) -> list[str]:
    if not paths:
        return []
    chosen = list(dict.fromkeys([paths[0], paths[len(paths) // 2], paths[-1]]))
    return [
        "<h2>Pictures</h2>",
        *(
            f'<figure><img alt="{_text(path.stem)}" src="data:image/png;base64,'
            f'{base64.b64encode(path.read_bytes()).decode()}"><figcaption>{_text(path.stem)}</figcaption></figure>'
            for path in chosen
        ),
    ]


def _table(heads: Sequence[Sequence[str]], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<tr>{''.join(f'<th>{_text(cell)}</th>' for cell in row)}</tr>" for row in heads if any(row))
    body = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table>{head}{body}</table>"


def _number(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _text(value: str) -> str:
    return html.escape(value, quote=True)

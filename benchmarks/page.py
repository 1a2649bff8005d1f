"""The page of figures: every row in `benchmarks/results/`, by device and benchmark, and pictures of the times.

python -m benchmarks.page docs
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks._plots import compared, overview

RESULTS = Path(__file__).parent / "results"

_CASE = ("preset", "op", "mode", "stage", "n", "k", "d", "data", "dtype", "batch", "pixels", "images")
_FIGURES: dict[str, tuple[str, Callable[[Any], str]]] = {
    "ms": ("ms", lambda value: f"{value:.3g}" if value < 100 else f"{value:.0f}"),
    "photos_per_s": ("photos/s", lambda value: f"{value:.3g}"),
    "photos_per_cpu_s": ("photos/CPU s", lambda value: f"{value:.3g}"),
    "over_other": ("× the other's rate", lambda value: f"{value:.2f}"),
    "over_other_cpu": ("× by CPU time", lambda value: f"{value:.2f}"),
    "detect_share": ("finding faces", lambda value: f"{value:.0%}"),
    "ratio": ("× the other", lambda value: f"{value:.2f}"),
    "speedup": ("× plain", lambda value: f"{value:.2f}"),
    "over_floor": ("over floor", lambda value: f"{value:.2f}"),
    "over_roof": ("over roof", lambda value: f"{value:.2f}"),
    "over_best_peer": ("over best peer", lambda value: f"{value:.2f}"),
    "images_per_s": ("images/s", lambda value: f"{value:.3g}"),
    "images_per_second": ("images/s", lambda value: f"{value:.3g}"),
    "tb_per_s": ("TB/s", lambda value: f"{value:.3g}"),
    "tflops": ("TFLOP/s", lambda value: f"{value:.3g}"),
    "wrong": ("wrong indices", str),
    "identical": ("identical", lambda value: f"{value:.1%}"),
    "codes_equal": ("codes equal", lambda value: f"{value:.2%}"),
    "psnr": ("PSNR, dB", lambda value: f"{value:.0f}"),
    "peak_bytes": ("peak, MB", lambda value: f"{value / 1e6:.1f}"),
}

_HEAD = """# Benchmarks

What follows is made from the rows in `benchmarks/results/` by `make figures`; a test says when it is stale.
Each command interleaves its contestants in one process and gives medians: CPU time on one thread on a processor, time
between events on a GPU. `over floor` divides by the plain operation that nothing of the kind can do without (a matrix
product, a sum); `over best peer` by the fastest other package of the same run: below 1 is faster. Peers that are not
installed are named. In the pictures each line is one case of a table, and each grey dot another implementation.

```sh
python -m benchmarks.nearest_code --json rows.json     # likewise code_stats, contrastive, degradations, restore
```

`--quick` ends within 50 s on two cores. Tests measure nothing: a figure is only as good as the machine was quiet, which
the load is given beside the rows.
"""


def page(results: Path = RESULTS) -> str:
    """Gives the page as Markdown.

    Args:
        results: A folder a device, a JSON file of rows a benchmark.
    """
    parts = [_HEAD]
    drawn = {path.relative_to(results) for path in pictured(results)}
    for folder in sorted(path for path in results.iterdir() if path.is_dir()):
        for file in sorted(folder.glob("*.json")):
            rows = json.loads(file.read_text(encoding="utf-8"))
            if rows:
                parts.append(
                    "\n".join(_section(file.relative_to(results), rows, drawn=file.relative_to(results) in drawn))
                )
    return "\n".join(parts)


def pictured(results: Path = RESULTS) -> list[Path]:
    """Gives the files of rows of which there is a picture: those in which others ran beside ours.

    Args:
        results: A folder a device, a JSON file of rows a benchmark.
    """
    return [file for file in sorted(results.glob("*/*.json")) if compared(json.loads(file.read_text(encoding="utf-8")))]


def source_of(file: Path) -> str:
    """Gives what a picture says about the rows that it was made from: their SHA-256.

    Args:
        file: Rows of a benchmark.
    """
    return f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}"


def _section(file: Path, rows: list[dict[str, Any]], *, drawn: bool) -> Iterator[str]:
    yield f"## {file.stem}, {file.parent}\n"
    first = rows[0]
    facts = [first.get("device"), _counted(first.get("threads"), "thread"), f"torch {first.get('torch')}"]
    facts += [f"load {first.get('load')}", first.get("date"), f"revision `{first.get('git')}`"]
    yield ", ".join(str(fact) for fact in facts if fact) + ".\n"
    if drawn:
        name = f"images/benchmarks/{file.parent}-{file.stem}.svg"
        yield f"![Times over those of codeprior, as in the table below]({name})\n"
    cases = [name for name in _CASE if any(name in row for row in rows)]
    figures = [name for name in _FIGURES if any(_known(row, name) for row in rows)]
    yield _line([*cases, "implementation", *(_FIGURES[name][0] for name in figures)])
    yield _line(["---"] * (len(cases) + 1 + len(figures)))
    for row in rows:
        shown = [_FIGURES[name][1](row[name]) if _known(row, name) else "" for name in figures]
        name = f"**{row['impl']}**" if str(row["impl"]).startswith("codeprior") else str(row["impl"])
        yield _line([*(str(row.get(case, "")) for case in cases), name, *shown])
    for key, said in (("missing_peers", "Not installed"), ("left_out", "Left out by `--quick`")):
        if first.get(key):
            yield f"\n{said}: {', '.join(first[key])}."
    if first.get("busy"):
        yield f"\n**Too busy to judge**: {first['busy']}."
    yield ""


def _known(row: Mapping[str, Any], name: str) -> bool:
    return isinstance(row.get(name), int | float)


def _counted(count: int | None, noun: str) -> str:
    return "" if count is None else f"{count} {noun}{'s' * (count != 1)}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    docs = Path(sys.argv[1])
    for rows_file in pictured():
        picture = docs / "images" / "benchmarks" / f"{rows_file.parent.name}-{rows_file.stem}.svg"
        overview(json.loads(rows_file.read_text(encoding="utf-8")), picture, source=source_of(rows_file))
    (docs / "benchmarks.md").write_text(page(), encoding="utf-8")

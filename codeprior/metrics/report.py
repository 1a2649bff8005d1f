"""A page of results: the tables, and the best and worst pictures of each method beside their truth."""

import html
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch.nn import functional as F

from codeprior import files as outputs
from codeprior.images import to_array
from codeprior.metrics import tables
from codeprior.metrics.results import Results
from codeprior.photos import files, sheets
from codeprior.shapes import Image

_HEIGHT = 192
"""Least height of a picture in a strip, pixels; smaller ones are enlarged by whole pixels."""

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:76rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;margin:1rem 0}td,th{padding:.25rem .7rem;border-bottom:1px solid #ccc;"
    "text-align:left}img{max-width:100%;display:block}figure{margin:1rem 0}figcaption{font-size:.9rem}"
)


class Extreme(NamedTuple):
    """An image that a method does best or worst on.

    Attributes:
        method: Whose.
        image: Its name.
        kind: `best` or `worst`.
        value: Of the column that was asked.
    """

    method: str
    image: str
    kind: str
    value: float


def extremes(results: Results, *, column: str, count: int = 3) -> list[Extreme]:
    """Gives the best and worst images of every method, best first, the very worst last.

    Args:
        results: What was measured.
        column: By which column.
        count: Of either kind; fewer where there are not enough images, and none is both.

    Raises:
        ValueError: There is no such column.
    """
    measures = {measure.name: measure for measure in results.measures}
    if column not in measures:
        raise ValueError(f"report: expected a column of {', '.join(measures) or 'none'}, got {column!r}.")
    found = []
    for method, rows in results.values.items():
        ranked = [(row[column], name) for name, row in rows.items() if not math.isnan(row.get(column, math.nan))]
        ranked.sort(reverse=measures[column].higher_is_better)
        some = min(count, len(ranked))
        good = ranked[: some if some < len(ranked) - some else (len(ranked) + 1) // 2]
        bad = ranked[max(len(good), len(ranked) - count) :]
        found += [Extreme(method, name, "best", value) for value, name in good]
        found += [Extreme(method, name, "worst", value) for value, name in bad]
    return found


def write_report(
    folder: str | Path,
    results: Results,
    pictures: Callable[[str, str], Mapping[str, Image]],
    *,
    title: str,
    column: str,
    baselines: Sequence[str] = (),
    count: int = 3,
) -> None:
    """Writes `report.html`, `report.md` and the strips of pictures that both show.

    Args:
        folder: Where to; strips go to `report/` in it.
        results: What was measured.
        pictures: Method and image to labelled pictures, each `1 3 H W`, unit; they are shown side by side.
        title: Heading of the page.
        column: By which column pictures are best or worst.
        baselines: Methods that the others are compared with.
        count: Best and worst pictures of each method.

    Raises:
        ValueError: There is no such column.
    """
    folder = Path(folder)
    (folder / "report").mkdir(parents=True, exist_ok=True)
    made, remarks = tables.tables(results, baselines=baselines), tables.notes(results)
    page, text = [f"<h1>{html.escape(title)}</h1>"], [f"# {title}", "", tables.markdown(made, remarks)]
    page += [_table(table) for table in made]
    page.append("<ul>" + "".join(f"<li>{html.escape(remark)}</li>" for remark in remarks) + "</ul>")
    for place, extreme in enumerate(extremes(results, column=column, count=count)):
        shown = pictures(extreme.method, extreme.image)
        if not shown:
            continue
        file = f"report/{place:03}_{extreme.kind}.jpg"
        files.write(folder / file, to_array(_strip(list(shown.values()))), overwrite=True)
        caption = (
            f"{extreme.method}, {extreme.kind} by {column}: {extreme.image} ({extreme.value:.4g}); "
            f"left to right {', '.join(shown)}"
        )
        page.append(f'<figure><img src="{file}" alt=""><figcaption>{html.escape(caption)}</figcaption></figure>')
        text += [f"![{caption}]({file})", "", f"*{caption}*", ""]
    document = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style>{''.join(page)}</html>\n"
    )
    outputs.write(folder / "report.html", document, overwrite=True)
    outputs.write(folder / "report.md", "\n".join(text) + "\n", overwrite=True)


def _table(table: tables.Table) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in table.heading)
    rows = ["".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in table.rows]
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table><p>{html.escape(table.caption)}</p>"


def _strip(images: Sequence[Image]) -> torch.Tensor:
    height = max(_HEIGHT, *(image.shape[-2] for image in images))
    shown = []
    for image in images:
        factor = height / image.shape[-2]
        size = (height, round(image.shape[-1] * factor))
        shown.append(F.interpolate(image, size=size, mode="nearest" if factor == int(factor) else "bilinear")[0])
    return sheets.row(shown)

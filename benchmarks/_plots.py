"""Pictures of a benchmark's rows: for each size the implementations from fast to slow, with floor, roof and memory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_OURS, _OTHERS, _LINES = "#0b6e4f", "#9a9a9a", {"floor_ms": ("floor", "--"), "roof_ms": ("roof", ":")}
_TICKS = (0.1, 0.2, 0.5, 1, 1.2, 1.5, 2, 3, 5, 10, 30, 100, 300)
_COLUMNS = 4  # sizes side by side


def draw(rows: list[dict[str, Any]], folder: Path) -> None:
    """Writes a picture for each op: a panel for each size, a point for each implementation."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    for op in dict.fromkeys(row["op"] for row in rows):
        mine = [row for row in rows if row["op"] == op]
        sizes = list(dict.fromkeys(_size(row) for row in mine))
        across = min(_COLUMNS, len(sizes))
        down = -(-len(sizes) // across)
        impls = max(sum(_size(row) == size for row in mine) for size in sizes)
        figure, axes = plt.subplots(
            down, across, figsize=(4.6 * across, down * (0.8 + 0.3 * impls)), squeeze=False, layout="constrained"
        )
        for axis, size in zip(axes.flat, sizes, strict=False):
            _panel(axis, [row for row in mine if _size(row) == size and row["impl"] != row["floor"]])
            axis.set_title(size, fontsize="medium")
        for axis in axes.flat[len(sizes) :]:
            axis.set_axis_off()
        figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize="small")
        figure.suptitle(f"{op}: milliseconds, memory above the outputs, wrong indices")
        figure.savefig(folder / f"{op.replace('+', '_').replace(' ', '_')}.png", dpi=120)
        plt.close(figure)


def overview(rows: list[dict[str, Any]], path: Path, *, source: str) -> None:
    """Writes one picture of a whole benchmark: for each case the time of every implementation over ours.

    Args:
        rows: Of one file; rows without a time, and cases without ours or without others, are left out.
        path: An SVG file.
        source: What the picture was made from, written into the file.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    cases = compared(rows)
    # letters stay letters, and the same rows give the same file
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": path.stem, "font.size": 8}):
        figure, axis = plt.subplots(figsize=(4.2, 0.9 + 0.23 * len(cases)), layout="constrained")
        for place, (_, ours, others) in enumerate(reversed(cases)):
            floor = [row["ms"] / ours for row in others if row["impl"] == row.get("floor")]
            peers = [row["ms"] / ours for row in others if row["impl"] != row.get("floor")]
            axis.plot(peers, [place] * len(peers), "o", color=_OTHERS, markersize=5, label=_first("others", place))
            if floor:
                axis.plot(floor, [place], "|", color="black", markersize=9, label=_first("plain operation", place))
        axis.axvline(1, color=_OURS, linewidth=2, label="codeprior")
        axis.set_yticks(range(len(cases)), [case for case, *_ in reversed(cases)])
        axis.set_ylim(-0.7, len(cases) - 0.3)
        axis.set_xscale("log")
        axis.set_xlabel("time over codeprior's")
        least, most = axis.get_xlim()
        ticks = [tick for tick in _TICKS if least <= tick <= most and (most < 4 or tick not in (1.2, 1.5, 2))]
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.set_xticks([], minor=True)
        axis.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside upper center", ncols=3, frameon=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Description": source, "Date": None})
        plt.close(figure)


def _first(label: str, place: int) -> str:
    return label if place == 0 else f"_{label}"


def compared(rows: list[dict[str, Any]]) -> list[tuple[str, float, list[dict[str, Any]]]]:
    """Gives for each case its words, the time of ours in milliseconds, and the rows of others.

    Args:
        rows: Of one benchmark.
    """
    cases: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row.get("ms"):
            cases.setdefault(_case(row), []).append(row)
    found = []
    for case, mine in cases.items():
        ours = [row["ms"] for row in mine if row["impl"] == "codeprior"]
        others = [row for row in mine if not str(row["impl"]).startswith("codeprior")]
        if ours and others:
            found.append((case, ours[0], others))
    return found


def _case(row: dict[str, Any]) -> str:
    sizes = [f"{name} {row[name]}" for name in ("n", "k", "d", "batch") if name in row]
    kinds = [str(row[name]) for name in ("data", "dtype") if name in row]
    return ", ".join([str(row.get("preset") or row["op"]), *sizes, *kinds])


def _panel(axis: Any, rows: list[dict[str, Any]]) -> None:
    rows = sorted(rows, key=lambda row: -row["ms"])
    for place, row in enumerate(rows):
        colour = _OURS if row["impl"].startswith("codeprior") else _OTHERS
        low, _, high = row["ms_quantiles"]
        axis.plot([low, high], [place, place], color=colour, linewidth=2)
        axis.plot(row["ms"], place, "o", color=colour)
        axis.annotate(_told(row), (high, place), (6, 0), textcoords="offset points", va="center", fontsize="x-small")
    for key, (name, style) in _LINES.items():
        if rows and rows[0].get(key):
            axis.axvline(rows[0][key], color="black", linestyle=style, linewidth=1, label=name)
    axis.set_yticks(range(len(rows)), [row["impl"] for row in rows], fontsize="small")
    axis.set_xscale("log")
    # room for the words to the right of the slowest
    least, most = axis.get_xlim()
    axis.set_xlim(least, most * (most / least) ** 0.6)
    axis.set_ylim(-0.7, len(rows) - 0.3)
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter("")
    axis.spines[["top", "right"]].set_visible(False)


def _told(row: Mapping[str, Any]) -> str:
    memory = "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 1e6:.3g} MB"
    return ", ".join(
        part for part in (f"{row['ms']:.3g} ms", memory, f"{row['wrong']} wrong" if row["wrong"] else "") if part
    )


def _size(row: Mapping[str, Any]) -> str:
    return " × ".join(str(row[name]) for name in ("n", "k", "d") if name in row)

"""Pictures of a benchmark's rows: for each size the implementations from fast to slow, with floor, roof and memory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_OURS, _OTHERS, _LINES = "#0b6e4f", "#9a9a9a", {"floor_ms": ("floor", "--"), "roof_ms": ("roof", ":")}
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

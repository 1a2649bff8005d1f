"""Pictures of a benchmark's rows: times over the floor, memory, and indices that are wrong."""

from pathlib import Path


def draw(rows: list[dict], folder: Path) -> None:
    """Writes a picture for each op: for each size a group of bars, one an implementation."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    panels = {"over_floor": "time over the floor", "peak_bytes": "memory above outputs, MB", "wrong": "wrong indices"}
    for op in dict.fromkeys(row["op"] for row in rows):
        mine = [row for row in rows if row["op"] == op]
        shown = {key: text for key, text in panels.items() if any(row[key] is not None for row in mine)}
        figure, axes = plt.subplots(1, len(shown), figsize=(6 * len(shown), 4), squeeze=False, layout="constrained")
        sizes = list(dict.fromkeys(_size(row) for row in mine))
        impls = list(dict.fromkeys(row["impl"] for row in mine))
        for axis, (key, text) in zip(axes[0], shown.items(), strict=True):
            for place, impl in enumerate(impls):
                found = {_size(row): row[key] or 0 for row in mine if row["impl"] == impl}
                heights = [found.get(size, 0) / (1e6 if key == "peak_bytes" else 1) for size in sizes]
                axis.bar([index + 0.8 * place / len(impls) for index in range(len(sizes))], heights, 0.8 / len(impls))
            axis.set_xticks([index + 0.4 for index in range(len(sizes))], sizes, fontsize="small")
            axis.set_title(text)
            if key != "wrong":
                axis.set_yscale("log" if key == "over_floor" else "symlog")
        figure.legend(impls, loc="outside lower center", ncols=4, fontsize="small")
        figure.suptitle(op)
        figure.savefig(folder / f"{op.replace('+', '_').replace(' ', '_')}.png", dpi=120)
        plt.close(figure)


def _size(row: dict) -> str:
    return "×".join(str(row[name]) for name in ("n", "k", "d") if name in row)

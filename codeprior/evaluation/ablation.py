"""Ablations: the figures of variants and seeds, kept so that nothing is trained twice, and their table."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev

from codeprior import files

Figures = Mapping[str, Sequence[Mapping[str, float]]]
"""The figures of each variant by name: one mapping per seed, in the same order of seeds."""


class Cells:
    """The figures found so far, a line per variant and seed in `cells.jsonl`, and their conditions.

    Args:
        folder: Made where it is not there.
        conditions: Whatever the figures depend on, JSON values.

    Attributes:
        found: Figures by variant and seed.

    Raises:
        ValueError: The folder holds figures found under other conditions.
    """

    def __init__(self, folder: Path, conditions: Mapping[str, object]):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.path, kept = folder, folder / "cells.jsonl", folder / "conditions.json"
        if kept.exists():
            before = json.loads(kept.read_text())
            changed = [key for key in {**before, **conditions} if before.get(key) != conditions.get(key)]
            if changed:
                raise ValueError(f"{folder} holds an ablation with another {', '.join(changed)}; give another folder")
        files.write(kept, json.dumps(conditions, indent=1) + "\n", overwrite=True)
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        self.found = {(row.pop("variant"), row.pop("seed")): row for row in map(json.loads, lines)}

    def add(self, variant: str, seed: int, figures: dict[str, float]) -> None:
        """Notes the figures of a variant and seed; the file is replaced in one step.

        Args:
            variant: Its name.
            seed: Its number.
            figures: By name.
        """
        self.found[variant, seed] = figures
        rows = [{"variant": name, "seed": number} | row for (name, number), row in self.found.items()]
        files.write(self.path, "".join(json.dumps(row) + "\n" for row in rows), overwrite=True)

    def write_table(self, titles: Mapping[str, str], seeds: Sequence[int], *, full: str) -> dict[str, list[dict]]:
        """Writes `results.json` and `table.md`, and gives the figures of every variant, a mapping per seed.

        Args:
            titles: What the table calls each variant, in the order of its rows.
            seeds: Which.
            full: The variant that the others are compared with.
        """
        results = {name: [self.found[name, seed] for seed in seeds] for name in titles}
        files.write(self.folder / "results.json", json.dumps(results, indent=1) + "\n", overwrite=True)
        files.write(self.folder / "table.md", ablation_table(results, titles, full=full) + "\n", overwrite=True)
        return results


def ablation_table(results: Figures, titles: Mapping[str, str], *, full: str) -> str:
    """Gives a Markdown table: the mean over seeds ± its standard error, and the paired difference to the full model.

    Args:
        results: Figures of every variant.
        titles: What the table calls each variant.
        full: The variant that the others are compared with.
    """
    names = list(results[full][0])
    lines = [
        "| variant | " + " | ".join(f"{name} | {name} − full" for name in names) + " |",
        "|---" * (1 + 2 * len(names)) + "|",
    ]
    for key, rows in results.items():
        cells = []
        for name in names:
            values = [row[name] for row in rows]
            differences = [value - other[name] for value, other in zip(values, results[full], strict=True)]
            cells += [_with_error(values), "" if key == full else _with_error(differences)]
        lines.append(f"| {titles[key]} | " + " | ".join(cells) + " |")
    seeds = len(results[full])
    return "\n".join(
        [*lines, "", f"Mean ± standard error over {seeds} seeds" + (" (none with one)" * (seeds == 1)) + "."]
    )


def _with_error(values: Sequence[float]) -> str:
    error = f" ± {stdev(values) / math.sqrt(len(values)):.4f}" if len(values) > 1 else ""
    return f"{mean(values):.4f}{error}"

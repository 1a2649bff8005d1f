"""What an ablation has found so far, kept so that nothing is trained twice."""

import json
from collections.abc import Mapping
from pathlib import Path

from codeprior import files


class Cells:
    """The figures found so far, a line a variant and seed in `cells.jsonl`, and what they were found under.

    Args:
        folder: Made where it is not there.
        conditions: Whatever the figures depend on, JSON values.

    Raises:
        ValueError: The folder holds figures found under other conditions.
    """

    def __init__(self, folder: Path, conditions: Mapping[str, object]):
        folder.mkdir(parents=True, exist_ok=True)
        self.path, told = folder / "cells.jsonl", folder / "conditions.json"
        if told.exists():
            before = json.loads(told.read_text())
            changed = [key for key in {**before, **conditions} if before.get(key) != conditions.get(key)]
            if changed:
                raise ValueError(f"{folder} holds an ablation with another {', '.join(changed)}; give another folder")
        files.write(told, json.dumps(conditions, indent=1) + "\n", overwrite=True)
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

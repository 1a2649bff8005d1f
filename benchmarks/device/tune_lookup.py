"""Which tiles are fastest on this GPU: a few ways for each width, every index compared with the truth.

    python -m benchmarks.device.tune_lookup --json tiles.json

The fastest of each problem is printed as a line for `fused.choose_tiles`; those that ship are among them.
"""

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks._gpu import graphed
from benchmarks._measure import about, interleaved
from benchmarks.device.rows import DRY, SHAPES, Problem, made
from codeprior.kernels import nearest_code
from codeprior.kernels.nearest_code.fused import Tiles, choose_tiles, launch

WAYS = {
    8: [(128, 256, 16, 8, 3), (128, 256, 8, 8, 3), (128, 128, 8, 4, 3), (64, 256, 16, 4, 3), (128, 256, 16, 8, 4)],
    256: [(128, 128, 4, 8, 2), (128, 64, 4, 8, 2), (128, 64, 4, 8, 3), (128, 64, 1, 8, 2), (64, 128, 4, 4, 2),
          (64, 64, 4, 4, 2), (128, 128, 8, 8, 2), (128, 64, 2, 8, 2), (64, 64, 1, 4, 3)],
}  # fmt: skip
SPLITS = (4, 8, 16, 32)


def candidates(problem: Problem, *, dry: bool = False) -> list[Tiles]:
    """Gives the ways to cut up a problem, the one that ships first."""
    if dry:
        return [Tiles(16, 32, 1, 4, 1, 1), Tiles(16, 32, 8, 4, 1, 1)]
    device = torch.device("cuda") if torch.cuda.is_available() else None
    ships = choose_tiles(problem.rows, problem.codes, problem.width, device=device)
    if problem.rows <= 4096:
        return [ships, *(ships._replace(split=split) for split in SPLITS if split != ships.split)]
    return [ships, *(tiles for way in WAYS[problem.width] if (tiles := Tiles(*way, 1)) != ships)]


def tuned(problem: Problem, *, dry: bool, seconds: float) -> list[dict[str, Any]]:
    """Times every way of a problem; gives a row for each, the fastest first."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x, table = made(problem, device)
    truth = nearest_code(x, table, impl="blocked")
    runs, rows = {}, []
    for tiles in candidates(problem, dry=dry):
        row: dict[str, Any] = {"problem": str(problem), "tiles": tiles}
        try:
            found = launch(x[None], table, tiles=tiles)[2]
            row["wrong"] = int((found.flatten() != truth).sum())
            run = partial(launch, x[None], table, tiles=tiles)
            runs[tiles] = graphed(run) if device == "cuda" else run
        except Exception as error:
            row["error"] = f"{type(error).__name__}: {error}"[:300]
        rows.append(row)
    times = interleaved({str(tiles): run for tiles, run in runs.items()}, seconds=seconds, rounds=60 if not dry else 1)
    for row in rows:
        if str(row["tiles"]) in times:
            row["ms"] = times[str(row["tiles"])][1]
    return sorted(rows, key=lambda row: row.get("ms", float("inf")))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each problem")
    parser.add_argument("--dry", action="store_true", help="tiny sizes, under Triton's interpreter")
    given = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for problem in DRY[:1] if given.dry else SHAPES:
        rows += tuned(problem, dry=given.dry, seconds=given.seconds)
        given.json.write_text(json.dumps([row | about() for row in rows], indent=1) + "\n")
        best = next((row for row in rows if row["problem"] == str(problem) and row.get("wrong") == 0), None)
        print(f"{problem}: {best and best['tiles']} {best and best.get('ms')} ms", flush=True)
    return int(any(row.get("wrong") for row in rows))


if __name__ == "__main__":
    sys.exit(main())

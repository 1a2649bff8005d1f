"""`python -m tests.torture --kills N --seed S`: kills a run N times, and says how many it survived.

`--ranks N` adds that many failures of one rank of two. Exit status 1 when something did not survive.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch

from tests.torture import stages
from tests.torture.kills import survive
from tests.torture.rank_failures import KINDS, recover


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=200, help="how many times a one-process run is killed")
    parser.add_argument("--ranks", type=int, default=0, help="how many times one rank of two fails")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--stages", nargs="+", default=list(stages.NAMES), choices=stages.NAMES)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so long with what was done")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    began = time.monotonic()
    survived = kills = 0
    with tempfile.TemporaryDirectory() as folder:
        names = tuple(arguments.stages)
        if arguments.kills:
            for run in survive(Path(folder) / "kills", kills=arguments.kills, seed=arguments.seed, names=names):
                kills += run.kills
                survived += run.kills if run.equal and not run.litter else 0
                verdict = "end equal" if run.equal else "END DIFFERS"
                print(
                    f"{run.stage}: {run.kills} kills ({run.during_save} inside a save), {verdict} {run.litter or ''}",
                    flush=True,
                )
                if time.monotonic() - began > 60 * arguments.minutes:
                    break
            print(f"survived {survived} of {kills}", flush=True)
        recovered: Counter[bool] = Counter()
        kinds: Counter[str] = Counter()
        for number in range(arguments.ranks):
            if time.monotonic() - began > 60 * arguments.minutes:
                break
            name, kind = names[number // len(KINDS) % len(names)], KINDS[number % len(KINDS)]
            run = recover(Path(folder) / "ranks", name, kind)
            recovered[run.equal and run.failed] += 1
            kinds[kind] += run.equal and run.failed
            print(
                f"{name}, {kind}: {'end equal' if run.equal else 'END DIFFERS'}{'' if run.failed else ', NO FAILURE'}",
                flush=True,
            )
        if arguments.ranks:
            each = ", ".join(f"{count} × {kind}" for kind, count in kinds.items())
            print(f"recovered {recovered[True]} of {recovered.total()}: {each}")
    print(f"{time.monotonic() - began:.0f} s")
    return int(survived != kills or bool(recovered[False]))


if __name__ == "__main__":
    sys.exit(main())

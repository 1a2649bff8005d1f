"""Implementations of the lookup against one another on one size: a line each, for those who write them.

    python -m benchmarks.compare --impl compiled --impl blocked --rows 4096 --codes 1024 --dim 256

Every index is compared with the float64 argmin. On a GPU `--graph` times the replay of a captured graph, and `--cold`
empties the second-level cache before every run.
"""

import argparse
from functools import partial

import torch

from benchmarks._gpu import EMPTYING, cold, graphed
from benchmarks._measure import Providers, interleaved, peak_bytes, settled
from benchmarks._roofs import measured, roof
from codeprior.kernels import ImplUnavailable, lookup, nearest_code

TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def main() -> int:
    given = _arguments()
    with settled() as device:
        rows = torch.randn(given.rows, given.dim, device=device).to(TYPES[given.dtype])
        table = torch.randn(given.codes, given.dim, device=device)
        truth = nearest_code(rows, table, impl="blocked")
        run = lookup if given.forward else nearest_code
        providers: Providers = {}
        for name in given.impl:
            providers[name] = partial(run, rows, table, impl=name, mode=given.mode)
            if given.graph:
                providers[name] = graphed(providers[name])
        if given.cold:
            providers = cold(providers)
        best = roof(measured(device), given.rows, given.codes, given.dim, writes_codes=given.forward,
                    itemsize=rows.element_size())  # fmt: skip
        times = interleaved(providers, seconds=given.seconds, rounds=1000)
        emptying = times.pop(EMPTYING, [0.0, 0.0, 0.0])[1]
        times = {name: [value - emptying for value in values] for name, values in times.items()}
        fastest = min(values[1] for values in times.values())
        print(f"{'impl':12s} {'p20':>9s} {'median':>9s} {'p80':>9s} ms  x best  x roof ({best.bound})  wrong     peak")
        for name, (low, middle, high) in times.items():
            found = providers[name]()
            indices = found.indices if given.forward else found
            wrong, peak = int((indices.flatten() != truth).sum()), peak_bytes(providers[name])
            memory = "?" if peak is None else f"{peak / 1e6:.1f} MB"
            ratios = f"{middle / fastest:7.3f} {middle / best.ms:7.2f} {'':{len(best.bound) + 2}s}"
            print(f"{name:12s} {low:9.3f} {middle:9.3f} {high:9.3f}    {ratios} {wrong:6d} {memory:>8s}")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--impl", action="append", required=True, help="name of an implementation; give several")
    parser.add_argument("--rows", type=int, default=4096)
    parser.add_argument("--codes", type=int, default=1024)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--dtype", choices=TYPES, default="float32", help="of the rows")
    parser.add_argument("--mode", choices=("exact", "fast"), default="exact")
    parser.add_argument("--forward", action="store_true", help="codes, distances and counts as well")
    parser.add_argument("--graph", action="store_true", help="replay a captured CUDA graph")
    parser.add_argument("--cold", action="store_true", help="empty the GPU's second-level cache before every run")
    parser.add_argument("--seconds", type=float, default=5)
    found = parser.parse_args()
    if (found.graph or found.cold) and not torch.cuda.is_available():
        parser.error("--graph and --cold need a GPU")
    return found


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except ImplUnavailable as error:
        raise SystemExit(str(error)) from error

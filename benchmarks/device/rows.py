"""The lookup on a GPU against its goals and peers: time, wrong indices, and how many rows the certificate left open.

    python -m benchmarks.device.rows --json rows.json
    python -m benchmarks.device.rows --json rows.json --profile folder     # with a trace of each problem's kernels

The file is written after every problem, a row for each implementation, as the page of figures reads them. Data is
random, or clustered: rows lie near a code, as behind a trained encoder. On a GPU what is timed are replays of a
captured graph, so that no time goes between launches; `eager` is a call from Python. The ceilings of the same run come
first: a copy, counting bytes read and written, and large matrix products.
"""

import argparse
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks._gpu import graphed
from benchmarks._measure import Providers, about, interleaved
from codeprior.kernels import Lookup, lookup, nearest_code
from codeprior.kernels.nearest_code import fused


class Problem(NamedTuple):
    rows: int
    codes: int
    width: int
    data: str = "random"
    goal: float | None = None
    """Milliseconds of the whole forward pass with float32 rows on an H100."""

    def __str__(self) -> str:
        return f"{self.rows}x{self.codes}x{self.width} {self.data}"


SHAPES = (
    Problem(262144, 1024, 256, "random", 0.32),
    Problem(262144, 1024, 256, "clustered", 0.32),
    Problem(65536, 16384, 256, "random", 1.25),
    Problem(1048576, 8192, 8, "random", 1.2),
    Problem(1048576, 8192, 8, "clustered", 1.2),
    Problem(4096, 1024, 256, "random"),
    Problem(256, 1024, 256, "random", 0.025),
)
DRY = (Problem(24, 40, 8, "random"), Problem(24, 40, 8, "clustered"))
# what is called from Python: to see what that costs, or because it waits for the device
_EAGER = ("codeprior eager", "vector-quantize-pytorch")


def made(problem: Problem, device: str, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Gives rows and codes of a problem."""
    generator = torch.Generator(device=device).manual_seed(0)
    table = torch.randn(problem.codes, problem.width, device=device, generator=generator)
    noise = torch.randn(problem.rows, problem.width, device=device, generator=generator)
    if problem.data == "random":
        return noise.to(dtype), table
    chosen = torch.randint(0, problem.codes, (problem.rows,), device=device, generator=generator)
    # half as far from their code as codes are from one another
    return (table[chosen] + 0.5 * noise).to(dtype), table


def rows_of(problem: Problem, dtype: torch.dtype, *, device: str, seconds: float) -> list[dict[str, Any]]:
    """Times a problem, ours and peers interleaved, and counts wrong indices of each."""
    x, table = made(problem, device, dtype)
    truth = nearest_code(x, table, impl="blocked").flatten()
    counters = torch.zeros(2, dtype=torch.int32, device=device)
    fused.launch(x[None], table, counters=counters)
    ways: dict[tuple[str, str], Callable[[], Any]] = {
        ("lookup", "codeprior"): partial(lookup, x, table, impl="triton"),
        ("lookup", "codeprior eager"): partial(lookup, x, table, impl="triton"),
        ("search", "codeprior"): partial(nearest_code, x, table, impl="triton"),
        ("search", "codeprior fast"): partial(nearest_code, x, table, impl="triton", mode="fast"),
        **{("search", name): run for name, run in peers(x, table).items()},
    }
    facts = {"n": problem.rows, "k": problem.codes, "d": problem.width, "data": problem.data}
    facts |= {"dtype": str(dtype).removeprefix("torch.")}
    rows, timed = [], {}
    for (op, impl), run in ways.items():
        row = {"op": op, **facts, "impl": impl, "ms": None, "wrong": None}
        try:
            if device == "cuda" and impl not in _EAGER:
                run = graphed(run)
            found = run()
            indices = found.indices if isinstance(found, Lookup) else found
            row["wrong"] = int((indices.flatten().long() != truth).sum())
            timed[f"{op} {impl}"] = run
        except Exception as error:
            row["error"] = f"{type(error).__name__}: {error}"[:300]
        if impl == "codeprior":
            row |= {"goal_ms": problem.goal if op == "lookup" and dtype == torch.float32 else None}
            row |= {"rows_settled": int(counters[0]), "rows_of_crowded_slots": int(counters[1])}
        rows.append(row)
    times = interleaved(timed, seconds=seconds, rounds=200 if device == "cuda" else 1)
    for row in rows:
        if quantiles := times.get(f"{row['op']} {row['impl']}"):
            row |= {"ms": quantiles[1], "ms_quantiles": quantiles}
            row["tflops"] = 2e-9 * problem.rows * problem.codes * problem.width / quantiles[1] if quantiles[1] else None
    return [row | about() for row in rows]


def ceilings(device: str) -> list[dict[str, Any]]:
    """What copies and products of this device reach at best, measured on random data."""
    large, side = (2**29, 8192) if device == "cuda" else (2**16, 64)
    source, target = torch.randn(large, device=device), torch.empty(large, device=device)
    probes: dict[str, Callable[[], Any]] = {"copy": lambda: target.copy_(source)}
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        first, second = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
        probes[str(dtype).removeprefix("torch.")] = lambda first=first, second=second: first @ second
    rows = []
    for name, (_, middle, _) in interleaved(probes, seconds=2, rounds=20 if device == "cuda" else 1).items():
        row = {"op": "copy" if name == "copy" else "product", "impl": f"torch {name}", "ms": middle}
        if middle:
            row |= {"tb_per_s": 8e-9 * large / middle} if name == "copy" else {"tflops": 2e-9 * side**3 / middle}
        rows.append(row | about())
    return rows


def peers(x: Tensor, table: Tensor) -> Providers:
    """Gives what else is installed and fits."""
    import importlib.util

    found: Providers = {}
    if len(x) * len(table) <= 2**31:
        half = table.square().sum(1) / 2
        found["product and argmin"] = lambda: torch.addmm(half, x.float(), table.T, alpha=-1).argmin(1)
        low = half.bfloat16(), x.bfloat16(), table.bfloat16().T
        found["product and argmin, bfloat16"] = lambda: torch.addmm(*low, alpha=-1).argmin(1)
    if x.is_cuda and importlib.util.find_spec("flash_kmeans"):
        from flash_kmeans.assign_euclid_triton import euclid_assign_triton

        squares, codes = x.float().square().sum(1)[None], table[None].to(x.dtype)
        found["flash_kmeans"] = lambda: euclid_assign_triton(x[None], codes, squares)[0]
    if x.is_cuda and len(x) * len(table) <= 2**28 and importlib.util.find_spec("vector_quantize_pytorch"):
        from vector_quantize_pytorch import VectorQuantize

        peer = VectorQuantize(dim=x.shape[1], codebook_size=len(table)).to(x.device).eval()
        peer._codebook.embed.data.copy_(table[None])
        found["vector-quantize-pytorch"] = torch.no_grad()(lambda: peer(x.float()[None])[1][0])
    return found


def profile(problem: Problem, folder: Path) -> None:
    """Writes the trace of a few calls."""
    x, table = made(problem, "cuda")
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profiler:
        for _ in range(3):
            lookup(x, table, impl="triton")
        torch.cuda.synchronize()
    name = str(problem).replace(" ", "_")
    (folder / f"{name}.txt").write_text(profiler.key_averages().table(sort_by="cuda_time_total", row_limit=20))
    profiler.export_chrome_trace(str(folder / f"{name}.trace.json"))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=1.5, help="for each problem and type")
    parser.add_argument("--profile", type=Path, help="write traces into this folder instead of timing")
    parser.add_argument("--dry", action="store_true", help="tiny sizes, under Triton's interpreter")
    given = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if given.profile:
        for problem in (SHAPES[0], SHAPES[3], SHAPES[-1]):
            profile(problem, given.profile)
        return 0
    rows, failed = ceilings(device), 0
    _written(rows, given.json)
    for problem in DRY if given.dry else SHAPES:
        for dtype in (torch.float32,) if given.dry else (torch.float32, torch.bfloat16):
            try:
                found = rows_of(problem, dtype, device=device, seconds=given.seconds)
            except Exception as error:
                failed += 1
                print(f"{problem} {dtype}: {type(error).__name__}: {error}", flush=True)
                continue
            rows += found
            _written(rows, given.json)
            for row in found:
                words = f"{row['op']} {row['impl']} {row['ms']} ms wrong {row['wrong']} {row.get('error', '')}"
                print(f"{problem} {row['dtype']}: {words}", flush=True)
    promised = [row for row in rows if row["impl"] in ("codeprior", "codeprior eager")]
    return int(failed > 0 or any(row["wrong"] != 0 for row in promised))


def _written(rows: list[dict[str, Any]], path: Path) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(rows, indent=1) + "\n")
    part.replace(path)


if __name__ == "__main__":
    sys.exit(main())

"""The lookup on a GPU against its goals and peers: time, wrong indices, and how many rows the certificate left open.

    python -m benchmarks.device.rows --json rows.json
    python -m benchmarks.device.rows --json rows.json --profile folder     # with a trace of each problem's kernels

A row is written after every problem. Data is random, or clustered: rows lie near a code, as behind a trained encoder.
Small problems are replays of a captured graph.
"""

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks._gpu import graphed
from benchmarks._measure import Providers, about, interleaved
from codeprior.kernels import lookup, nearest_code
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
_GRAPHED = 4096


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


def row_of(problem: Problem, dtype: torch.dtype, *, device: str, seconds: float) -> dict[str, Any]:
    """Times a problem, ours and peers interleaved, and counts wrong indices of each."""
    x, table = made(problem, device, dtype)
    truth = nearest_code(x, table, impl="blocked")
    counters = torch.zeros(2, dtype=torch.int32, device=device)
    fused.launch(x[None], table, counters=counters)
    forward: Providers = {"codeprior": partial(lookup, x, table, impl="triton")}
    search: Providers = {
        "codeprior search": partial(nearest_code, x, table, impl="triton"),
        "codeprior search fast": partial(nearest_code, x, table, impl="triton", mode="fast"),
        **peers(x, table),
    }
    ours = forward | {name: run for name, run in search.items() if name.startswith("codeprior")}
    if device == "cuda" and problem.rows <= _GRAPHED:
        ours = {name: graphed(run) for name, run in ours.items()}
    providers = ours | {name: run for name, run in search.items() if name not in ours}
    times = interleaved(providers, seconds=seconds, rounds=200 if device == "cuda" else 1)
    wrong = {}
    for name, run in providers.items():
        found = run()
        indices = found.indices if hasattr(found, "indices") else found
        wrong[name] = int((indices.flatten().long() != truth.flatten()).sum())
    row: dict[str, Any] = {"problem": str(problem), **problem._asdict(), "dtype": str(dtype).removeprefix("torch.")}
    row |= {"ms": {name: quantiles[1] for name, quantiles in times.items()}, "ms_quantiles": times, "wrong": wrong}
    row |= {"rows_settled": int(counters[0]), "rows_of_crowded_slots": int(counters[1])}
    return row | about()


def peers(x: Tensor, table: Tensor) -> Providers:
    """Gives what else is installed and fits."""
    import importlib.util

    found: Providers = {}
    if len(x) * len(table) <= 2**31:
        half = table.square().sum(1) / 2
        found["product and argmin"] = lambda: torch.addmm(half, x.float(), table.T, alpha=-1).argmin(1)
    if x.is_cuda and importlib.util.find_spec("flash_kmeans"):
        from flash_kmeans.assign_euclid_triton import euclid_assign_triton

        found["flash_kmeans"] = lambda: euclid_assign_triton(x[None], table[None].to(x.dtype), x.square().sum(1)[None])[
            0
        ]
    if x.is_cuda and len(x) * len(table) <= 2**28 and importlib.util.find_spec("vector_quantize_pytorch"):
        from vector_quantize_pytorch import VectorQuantize

        peer = VectorQuantize(dim=x.shape[1], codebook_size=len(table)).to(x.device).eval()
        peer._codebook.embed.data.copy_(table[None])
        found["vector-quantize-pytorch"] = lambda: peer(x.float()[None])[1][0]
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--profile", type=Path, help="folder for traces")
    parser.add_argument("--seconds", type=float, default=1.5, help="for each problem and type")
    parser.add_argument("--dry", action="store_true", help="tiny sizes, under Triton's interpreter")
    given = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows: list[dict[str, Any]] = []
    for problem in DRY if given.dry else SHAPES:
        for dtype in (torch.float32,) if given.dry else (torch.float32, torch.bfloat16):
            try:
                row = row_of(problem, dtype, device=device, seconds=given.seconds)
            except Exception as error:
                row = {"problem": str(problem), "dtype": str(dtype), "error": f"{type(error).__name__}: {error}"}
            rows.append(row)
            given.json.write_text(json.dumps(rows, indent=1) + "\n")
            print(json.dumps({name: row[name] for name in ("problem", "dtype", "ms", "wrong", "error") if name in row}))
    if given.profile is not None and device == "cuda":
        for problem in (SHAPES[0], SHAPES[-1]):
            profile(problem, given.profile)
    bad = [row for row in rows if "error" in row or any(v for k, v in row["wrong"].items() if k in _PROMISED)]
    return int(bool(bad))


_PROMISED = ("codeprior", "codeprior search")

if __name__ == "__main__":
    sys.exit(main())

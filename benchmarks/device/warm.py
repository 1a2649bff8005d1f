"""Compiles every variant of the kernels that the other steps need, in as many processes as there are cores.

    python -m benchmarks.device.warm
    python -m benchmarks.device.warm --tiles        # also every way that tune_lookup tries

What a variant depends on is width, type, layout and the tiles; few rows of each are enough. Triton keeps what it has
compiled in its own cache on disk.
"""

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

import torch

from benchmarks.device.rows import DRY, SHAPES, Problem


def variants(*, dry: bool, tiles: bool = False) -> list[tuple[str, Problem, torch.dtype, str]]:
    """Gives op, problem, type and layout of every variant; the counts of rows are no larger than they must be.

    Args:
        dry: Tiny sizes.
        tiles: In place of what the rows need, each problem's ways to cut it up; the layout is then the way's number.
    """
    if tiles:
        from benchmarks.device.tune_lookup import candidates

        return [
            ("launch", problem, torch.float32, str(number))
            for problem in (DRY[:1] if dry else SHAPES)
            if problem.data == "random"
            for number in range(len(candidates(problem, dry=dry)))
        ]
    problems = DRY if dry else SHAPES
    found = []
    for problem in problems:
        # up to 4096 rows the table is split
        rows = problem.rows if dry else min(problem.rows, 8192)
        small = problem._replace(rows=rows)
        for dtype in (torch.float32,) if dry else (torch.float32, torch.bfloat16):
            if problem.data == "random":
                found += [(op, small, dtype, "rows") for op in ("lookup", "nearest_code", "fast")]
    found += [(op, problems[0], torch.float32, "rows") for op in ("contrastive", "code_stats", "group_norm_silu")]
    return found


def compile_one(variant: tuple[str, Problem, torch.dtype, str]) -> tuple[str, float]:
    """Runs one variant once; gives its name and seconds."""
    from codeprior import kernels

    op, problem, dtype, layout = variant
    if op == "launch":
        return _launched(problem, int(layout))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    start = time.perf_counter()
    x = torch.randn(problem.rows, problem.width, device=device, dtype=dtype)
    table = torch.randn(problem.codes, problem.width, device=device)
    latent = x if layout == "rows" else x.T.reshape(1, problem.width, -1, 1)
    if op == "nearest_code":
        kernels.nearest_code(latent, table, impl="triton")
    elif op == "fast":
        kernels.nearest_code(latent, table, impl="triton", mode="fast")
    elif op == "lookup":
        kernels.lookup(latent, table, impl="triton")
    elif op == "contrastive":
        first = x[:256].requires_grad_()
        kernels.symmetric_cross_entropy(first, x[:256], scale=10.0, impl="triton").backward()
    elif op == "code_stats":
        kernels.code_stats(x, torch.arange(len(x), device=device) % 7, size=7, impl="triton")
    else:
        feature = torch.randn(1, 8, 4, 4, device=device, requires_grad=True)
        one = torch.ones(8, device=device)
        kernels.group_norm_silu(feature, one, one, groups=4, impl="triton").sum().backward()
    if device == "cuda":
        torch.cuda.synchronize()
    return f"{op} {problem} {dtype} {layout}", time.perf_counter() - start


def _launched(problem: Problem, number: int) -> tuple[str, float]:
    from benchmarks.device.tune_lookup import candidates
    from codeprior.kernels.nearest_code.fused import launch

    start, tiles = time.perf_counter(), candidates(problem)[number]
    rows = min(problem.rows, 8192)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    launch(torch.randn(1, rows, problem.width, device=device), torch.randn(problem.codes, problem.width, device=device),
           tiles=tiles)  # fmt: skip
    if device == "cuda":
        torch.cuda.synchronize()
    return f"{problem} {tuple(tiles)}", time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dry", action="store_true", help="tiny sizes, one process")
    parser.add_argument("--tiles", action="store_true", help="the ways that tune_lookup tries")
    parser.add_argument("--processes", type=int, default=min(14, os.cpu_count() or 1))
    given = parser.parse_args()
    failed, todo = 0, variants(dry=given.dry, tiles=given.tiles and not given.dry)
    if given.dry:
        for variant in todo[:1] + todo[-2:]:
            print("{} {:.1f} s".format(*compile_one(variant)), flush=True)
        return 0
    with ProcessPoolExecutor(given.processes, mp_context=get_context("spawn")) as pool:
        for future in as_completed([pool.submit(compile_one, variant) for variant in todo]):
            try:
                print("{} {:.1f} s".format(*future.result()), flush=True)
            except Exception as error:
                failed += 1
                print(f"failed: {type(error).__name__}: {error}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())

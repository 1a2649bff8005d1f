"""How fast each stage of DAEFR trains here, and which share of the device's peak that is.

    python -m benchmarks.training --quick --json rows.json
    python -m benchmarks.training --batch 4 8 --compile --json rows.json      # a GPU, full size, bfloat16

A whole update is timed: damage, forward passes, backward passes, both optimisers, as `train` runs it, with the
discriminators taking part. The work of an image is counted as on the page about scale; the peak is that of a large
matrix product, timed in the same run. `--quick` takes the small network, in float32, which a CPU manages in a minute.
"""

import argparse
import math
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import scale
from benchmarks._measure import Given, about, report
from codeprior.losses import PerceptualLoss
from codeprior.recipes.daefr import settings
from codeprior.recipes.daefr.association_stage import AssociationStage
from codeprior.recipes.daefr.codebook_stage import CodebookStage
from codeprior.recipes.daefr.model import vqgan
from codeprior.recipes.daefr.restoration_stage import RestorationStage
from codeprior.training import Batch, Engine, Stage, TorchEngine

_STAGES = ("hq_codebook", "lq_codebook", "association", "restoration")


class KnownCodes:
    """Stands in for the cache of target codes, which is read from memory and costs next to nothing."""

    def __init__(self, grid: tuple[int, int], codes: int, tables: int = 1):
        self.shape, self.size = grid if tables == 1 else (tables, *grid), codes

    def codes(self, indices: Tensor, flipped: Tensor) -> Tensor:
        """Gives some codes for each image."""
        return torch.arange(len(indices) * math.prod(self.shape)).reshape(-1, *self.shape) % self.size


def chosen(quick: bool) -> dict[str, Any]:
    """Gives the four settings, with the discriminators in from the first step and whole images."""
    ending = "_small" if quick else ""
    found = {name: settings.RECIPES[name + ending]() for name in _STAGES}
    whole = {
        "adversarial_start": 0, "adversarial_from": None, "codes_from": 0.0, "perceptual_from": 0.0, "crop": None,
        "whole_batch": None,
    }  # fmt: skip
    return {name: recipe if name == "restoration" else replace(recipe, **whole) for name, recipe in found.items()}


def stage_of(recipe: Any, engine: Engine) -> Stage:
    """Gives a stage with fresh weights."""
    network = recipe.network
    if isinstance(recipe, settings.RestorationRecipe):
        stage = RestorationStage(recipe, teacher=vqgan(network), hq=vqgan(network), lq=vqgan(network), engine=engine)
        stage.cache = KnownCodes(network.grid, network.codes, network.tables)  # pyright: ignore[reportAttributeAccessIssue]
        return stage
    perceptual = PerceptualLoss(recipe.perceptual, weights="random")
    if isinstance(recipe, settings.AssociationRecipe):
        return AssociationStage(recipe, hq=vqgan(network), lq=vqgan(network), perceptual=perceptual, engine=engine)
    return CodebookStage(recipe, perceptual=perceptual, engine=engine)


def faces_of(recipe: Any, count: int, device: torch.device) -> Batch:
    """Gives a batch of noise with the shape of faces."""
    side, keys = recipe.degradation_size, torch.arange(count)
    clean = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8)
    return Batch(clean, keys, keys, torch.zeros(count, dtype=torch.bool)).to(device)


def timed(run: Any, device: torch.device, seconds: float, *, least: int = 3) -> list[float]:
    """Gives seconds of single calls, after two that do not count, for about so long."""
    times: list[float] = []
    began = time.monotonic()
    for number in range(10_000):
        start = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if number >= 2:
            times.append(time.perf_counter() - start)
        if len(times) >= least and time.monotonic() - began > seconds:
            break
    return times


def peak_tflops(device: torch.device, dtype: torch.dtype, *, seconds: float = 3.0) -> float:
    """Gives the rate of a large matrix product, the best of many: what a perfect program would come near to."""
    side = 8192 if device.type == "cuda" else 1024
    first, second = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / min(timed(lambda: first @ second, device, seconds)) / 1e12


def rows_of(options: argparse.Namespace) -> tuple[list[dict], list[str]]:
    """Times every stage at every batch; gives the rows, and what did not fit into the memory."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    half = not options.quick
    peak = peak_tflops(device, torch.bfloat16 if half else torch.float32, seconds=options.seconds / 4)
    rows, left_out = [], []
    made = {name: recipe for name, recipe in chosen(options.quick).items() if options.stage in (None, name)}
    every = chosen(options.quick)
    work = dict(zip(every, scale.tflop_an_image(scale.parts(every["hq_codebook"])).values(), strict=True))
    for name, recipe in made.items():
        for batch in options.batch:
            engine = TorchEngine(
                device, precision="bfloat16" if half else "float32", channels_last=half, compiled=options.compile
            )
            try:
                torch.manual_seed(0)
                stage, faces = stage_of(recipe, engine), faces_of(recipe, batch, device)
                if device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats()
                times = timed(lambda stage=stage, faces=faces: stage.update(faces, 0), device, options.seconds)
            except torch.OutOfMemoryError:
                left_out.append(f"{name} at batch {batch}: out of memory")
                continue
            finally:
                stage = None
            middle = statistics.median(times)
            rate = batch * work[name] / middle
            row = {"op": "update", "stage": name, "batch": batch, "pixels": recipe.network.size, "impl": "codeprior"}
            row |= {"precision": engine.precision, "channels_last": half, "compiled": options.compile}
            row |= {"ms": round(1e3 * middle, 2), "steps": len(times), "images_per_second": round(batch / middle, 3)}
            row |= {"tflop_an_image": work[name], "tflops": rate, "peak_tflops": peak, "share_of_peak": rate / peak}
            row["peak_bytes"] = torch.cuda.max_memory_allocated() if device.type == "cuda" else None
            rows.append(row)
            # after every stage: the process may be ended at any time
            report(rows, Given(options.quick, options.json, None), missing=[], left_out=left_out)
            print(
                f"{name:12s} batch {batch:3d} {row['ms']:10.1f} ms {row['images_per_second']:9.2f} images/s "
                f"{rate:8.3f} TFLOP/s = {rate / peak:.1%} of {peak:.3f}",
                flush=True,
            )
    return rows, left_out


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="the small network in float32, for a CPU")
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument("--batch", type=int, nargs="+", help="images a step; 2 with --quick, else 4")
    parser.add_argument("--stage", choices=_STAGES, help="only this one; without it, all four")
    parser.add_argument("--compile", action="store_true", help="compile the networks")
    parser.add_argument("--seconds", type=float, help="for each stage and batch; 4 with --quick, else 20")
    options = parser.parse_args()
    options.batch = options.batch or [2 if options.quick else 4]
    options.seconds = options.seconds or (4.0 if options.quick else 20.0)
    if not torch.cuda.is_available():
        torch.set_num_threads(1)
    rows, left_out = rows_of(options)
    report(rows, Given(options.quick, options.json, None), missing=[], left_out=left_out)
    print(about())
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Trains the embedded prior's stages on a lent GPU in a given time: the small and the medium chain side by side.

    python3 -m benchmarks.device.prior --stages hq_codebook --seconds 150 --often others --out "$OUT"
    python3 -m benchmarks.device.prior --stages lq_codebook association restoration fidelity decoder --seconds 380 \\
        --often others --out "$OUT"

A network of this size leaves most of a large GPU idle between its launches, so two chains take hardly more time than
one. Each stage makes a few steps first, from which its whole number of steps follows: the rate then falls to zero when
the time is up. Stages are run by the recipe's own command; what is written into OUT is half precision.

The pack (`campaign/`) holds `faces/SOURCE/`, `weights/` with the perceptual network, and what the stages start from:
`hq_vqgan_{kind}.safetensors`, and `taps.safetensors`, the taps and their encoder of an earlier edition.
"""

import argparse
import json
import os
import subprocess
import sys
import tarfile
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

KINDS = ("small", "medium")
TRIED = 40
"""Steps from which the rate is read."""


class Plan(NamedTuple):
    """How a stage is run: its share of the time, and what differs from its recipe."""

    share: float
    batch: dict[str, int]
    rate: float
    average: float
    changes: dict[str, Any]
    workers: int = 7


WHOLE: dict[str, Any] = {"crop": None, "whole_batch": None, "adversarial_from": 2.0}
PLANS = {
    "hq_codebook": Plan(1.0, {"small": 64, "medium": 24}, 7e-4, 0.998, WHOLE, workers=2),
    "lq_codebook": Plan(0.13, {"small": 32, "medium": 24}, 5e-4, 0.995, WHOLE),
    "association": Plan(0.07, {"small": 24, "medium": 16}, 2e-4, 0.99, {}),
    "restoration": Plan(0.32, {"small": 32, "medium": 24}, 8e-4, 0.998, {}),
    "fidelity": Plan(0.30, {"small": 32, "medium": 24}, 8e-4, 0.998, {}),
    "decoder": Plan(0.18, {"small": 32, "medium": 24}, 5e-4, 0.998, {}),
}  # fmt: skip


_ENDS = (
    ("hq_codebook", "vqgan", "hq_vqgan"), ("decoder", "restorer", "daefr"), ("fidelity", "restorer", "daefr"),
    ("restoration", "restorer", "restorer"),
)  # fmt: skip
"""Stages, what each ends in, and its name among the results; a restorer holds those of the stages before it."""


def write_all_pixels(pack: Path, folder: Path, sizes: tuple[int, ...]) -> None:
    """Decodes the faces of every source once for all processes, each source and size in a process of its own."""
    with ProcessPoolExecutor(8, mp_context=get_context("spawn")) as pool:
        warm = pool.submit(_damage_once) if len(sizes) > 1 else None
        jobs = [(source, size) for source in sorted((pack / "faces").iterdir()) for size in sizes]
        list(pool.map(partial(_pixels, folder), jobs))
        if warm is not None:
            warm.result()


def _damage_once() -> None:
    """Compiles what damages faces on a CPU, before many loader processes would do it side by side."""
    import torch

    from codeprior.stages import MIXED, Faces
    from codeprior.training import Batch

    keys = torch.arange(1, 25)
    clean = torch.randint(0, 256, (len(keys), 3, 512, 512), dtype=torch.uint8)
    faces = Faces(size=128, degradation=MIXED, degradation_size=512)
    faces.on_workers(Batch(clean, keys, keys, torch.zeros(len(keys), dtype=torch.bool)))


def _pixels(folder: Path, job: tuple[Path, int]) -> None:
    from codeprior.training import ImageFolder
    from codeprior.training.pixels import write_pixels

    source, size = job
    out = folder / str(size) / source.name
    if not out.exists():
        write_pixels(ImageFolder(source, size=size, cached=False), out)


def run_chain(kind: str, given: argparse.Namespace) -> int:
    """Runs the stages of one kind in this process, each until its share of the time is over."""
    import torch

    from codeprior.recipes.daefr.settings import RECIPES

    began, runs, status = time.monotonic(), given.runs / kind, 0
    if given.threads:
        torch.set_num_threads(given.threads)
    total, done = sum(PLANS[stage].share for stage in given.stages), 0.0
    for stage in given.stages:
        plan = PLANS[stage]
        done += plan.share / total
        name = f"{stage}_{kind}"
        recipe = replace(RECIPES[name](), **plan.changes)
        try:
            if stage == "fidelity":
                _with_taps(given.pack / "weights" / "taps.safetensors", runs, recipe)
            _run(name, recipe, plan, kind, runs, given, until=began + done * given.seconds)
        except Exception:
            traceback.print_exc()
            status = 1
        print(f"{name}: {time.monotonic() - began:.0f} of {given.seconds:.0f} s", flush=True)
    return status


def _run(name: str, recipe: Any, plan: Plan, kind: str, runs: Path, given: argparse.Namespace, *, until: float) -> None:
    from codeprior.recipes.daefr.train import command

    stage = name.removesuffix(f"_{kind}")
    made = replace(command(), recipes={name: lambda: recipe})
    faces = given.pixels / str(recipe.degradation_size)
    # faces from outside the largest source are seen twice as often
    words = [
        "--faces",
        *(str(faces / source) for source in ("others", "others", "congress")),
        "--out",
        str(runs / name),
    ]
    words += ["--batch", str(plan.batch[kind] if not given.dry else 2), "--rate", str(plan.rate)]
    words += ["--average", str(plan.average), "--warmup", "50", "--seed", str(given.seed)]
    words += ["--workers", str(plan.workers if not given.dry else 1), "--degrade", "workers"]
    words += ["--log-every", "20", "--preview-every", "0", "--save-minutes", "60", "--from-disk"]
    found = sorted((given.pack / "weights").glob("mobilenet_v2*.pth"))
    words += ["--perceptual-weights", str(found[0]) if found else "random"]
    if stage == "hq_codebook":
        words += ["--start", str(_start(given.pack, kind))]
    elif stage == "fidelity":
        words += ["--restoration", str(runs / "with_taps")]
    elif stage == "decoder":
        words += ["--restoration", str(runs / f"fidelity_{kind}")]
    else:
        words += ["--hq", str(_first(runs, given.pack, kind))]
    fast = [] if given.dry else ["--precision", "bfloat16", "--channels-last"]
    tried = 4 if given.dry else TRIED
    for extra in (fast, []):
        try:
            status = made.main([name, *words, *extra, "--steps", str(tried)])
        except Exception:
            traceback.print_exc()
            status = 1
        if status == 0:
            break
    else:
        raise RuntimeError(f"{name} could not be begun")
    log = [json.loads(line) for line in (runs / name / "log.jsonl").read_text().splitlines()]
    at = {line["step"]: line["elapsed"] for line in log if "elapsed" in line}
    steps = sorted(at)
    rate = (steps[-1] - steps[0]) / (at[steps[-1]] - at[steps[0]]) if len(steps) > 1 else 1.0
    left = until - time.monotonic() - 2
    count = tried + max(tried, int(0.95 * rate * left))
    if given.dry:
        count = tried + 2
    print(f"{name}: {rate:.2f} steps/s, {count} steps in {left:.0f} s", flush=True)
    status = made.main([name, *words, *extra, "--steps", str(count), "--minutes", str(max(left, 5.0) / 60)])
    print(f"{name}: status {status}", flush=True)


def _first(runs: Path, pack: Path, kind: str) -> Path:
    """Gives the folder of stage 1a: of this run, or of the one before, brought along."""
    folder = runs / f"hq_codebook_{kind}"
    if not (folder / "vqgan.safetensors").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "vqgan.safetensors").write_bytes(_start(pack, kind).read_bytes())
    return folder


def _start(pack: Path, kind: str) -> Path:
    """Gives the VQGAN to begin from: of this kind, or the small one, whose weights fit faces of any size."""
    path = pack / "weights" / f"hq_vqgan_{kind}.safetensors"
    return path if path.exists() else pack / "weights" / "hq_vqgan_small.safetensors"


def _with_taps(path: Path, runs: Path, recipe: Any) -> None:
    """Puts taps of an earlier edition on the restorer of stage 3: no weight of theirs depends on the size of faces."""
    import safetensors.torch

    from codeprior import weights
    from codeprior.recipes.daefr.model import fidelity_taps
    from codeprior.stages.fidelity import reading_encoder

    folders = sorted(runs.glob("restoration_*"))
    model: Any = weights.load(folders[0] / "restorer.safetensors")
    if path.exists():
        state = safetensors.torch.load_file(str(path))
        taps, own = fidelity_taps(recipe.network), reading_encoder(model.hq_encoder)
        for module, part in ((taps, "taps."), (own, "encoder.")):
            module.load_state_dict(
                {name.removeprefix(part): value.float() for name, value in state.items() if name.startswith(part)}
            )
        model = model.with_taps(taps, own)
    (runs / "with_taps").mkdir(parents=True, exist_ok=True)
    weights.save(runs / "with_taps" / "restorer.safetensors", model)


def write_results(given: argparse.Namespace) -> None:
    """Writes what the stages made into OUT: weights in half precision, and the logs in one archive."""
    import torch

    from codeprior import weights

    for kind in KINDS:
        made = set[str]()
        for stage, part, name in _ENDS:
            path = given.runs / kind / f"{stage}_{kind}" / f"{part}.safetensors"
            if stage in given.stages and part not in made and path.exists():
                made.add(part)
                target = given.out / f"{name}_{kind}.safetensors"
                weights.save(target, weights.load(path), dtype=torch.float16, overwrite=True)
    with tarfile.open(given.out / "prior_logs.tar.gz", "w:gz") as tar:
        for path in sorted([*given.runs.glob("*/*/log.jsonl"), *given.runs.glob("*/*/configuration.json")]):
            tar.add(path, str(path.relative_to(given.runs)))
        for kind in KINDS:
            if (given.out / f"{kind}.log").exists():
                tar.add(given.out / f"{kind}.log", f"{kind}.log")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--stages", nargs="+", choices=PLANS, required=True)
    parser.add_argument("--seconds", type=float, required=True, help="for all of them, from the start of this command")
    parser.add_argument("--pack", type=Path, default=Path("campaign"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("/tmp/prior"), help="folder of the runs")
    parser.add_argument("--often", nargs="*", default=[], metavar="SOURCE", help="whose faces are seen twice as often")
    parser.add_argument("--seed", type=int, default=41)
    parser.add_argument("--threads", type=int, default=1, help="of each chain's own process")
    parser.add_argument("--kind", choices=KINDS, help="run this chain in this process")
    parser.add_argument("--dry", action="store_true", help="a few tiny steps, for a CPU")
    given = parser.parse_args()
    given.pixels = given.runs / "pixels"
    given.out.mkdir(parents=True, exist_ok=True)
    if given.kind:
        return run_chain(given.kind, given)
    began = time.monotonic()
    write_all_pixels(given.pack, given.pixels, (256,) if given.stages == ["hq_codebook"] else (512, 256))
    left = given.seconds - (time.monotonic() - began)
    processes = []
    for kind in KINDS:
        words = [sys.executable, "-m", "benchmarks.device.prior", *sys.argv[1:], "--kind", kind]
        words += ["--seconds", f"{left:.1f}"]
        log = (given.out / f"{kind}.log").open("wb")
        processes.append(
            subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, env=os.environ | {"PYTHONUNBUFFERED": "1"})
        )
    for process in processes:
        try:
            process.wait(max(1.0, left + 25 - (time.monotonic() - began)) if not given.dry else None)
        except subprocess.TimeoutExpired:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
    write_results(given)
    for kind in KINDS:
        lines = (given.out / f"{kind}.log").read_text(errors="replace").replace("\r", "\n").splitlines()
        print(f"--- {kind}", *[line[:300] for line in lines[-14:]], sep="\n")
        (given.out / f"{kind}.log").unlink()
    print(f"prior: {time.monotonic() - began:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

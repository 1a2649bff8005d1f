"""A folder of photographs through `stream`, and the same photographs one after the other.

Photographs are made here from scikit-image's pictures, with faces pasted in at many sizes. Each way runs in a fresh
process, so that its high-water mark of memory is its own; photographs are decoded, searched by the default detector,
restored by the embedded prior, pasted back and written.

Beside another checkout there are two modes: `always` restores every face of sharp photographs as the model says;
`auto` decides by the estimated damage of damaged ones, and mends or leaves faces as `codeprior restore` does.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch.nn import functional as F

STAGES = ("decode", "detect", "align", "network", "paste", "write")


def photograph_rows(count: int) -> list[dict]:
    """Gives a row for each way; a quarter, a half and all of the photographs tell whether memory grows."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for index in range(count):
            _photograph(index, Path(folder) / f"{index:04}.jpg")
        ways = [("one by one", count), *(("stream", part) for part in (count // 4, count // 2, count))]
        for impl, part in ways:
            command = [sys.executable, "-m", "benchmarks._photographs", impl, folder, str(part)]
            found = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
            rows.append({"op": "photographs", "n": part, "impl": impl} | json.loads(found.stdout.splitlines()[-1]))
            print("  ".join(f"{key}={value}" for key, value in rows[-1].items()), flush=True)
    rows[-1]["ratio"] = round(rows[0]["wall_s"] / rows[-1]["wall_s"], 3)
    rows[-1]["ratio_cpu"] = round(rows[0]["cpu_s"] / rows[-1]["cpu_s"], 3)
    print(f"stream over one by one: x{rows[-1]['ratio']} by wall clock, x{rows[-1]['ratio_cpu']} by CPU time")
    return rows


def against_rows(count: int, other: Path, *, rounds: int) -> list[dict]:
    """Gives a row for each mode of this version and of another checkout, which take turns on the same photographs.

    Args:
        count: Photographs.
        other: The folder of the other checkout.
        rounds: Turns of each; a row has the median of each figure.
    """
    rows = []
    for mode in ("always", "auto"):
        runs = _turns(count, other, mode, rounds)
        names = ("codeprior", f"revision {_revision(other)}")
        pair = [_row(count, mode, name, found) for name, found in zip(names, runs.values(), strict=True)]
        for row in pair:
            row["over_other"] = round(pair[1]["wall_s"] / row["wall_s"], 3)
            row["over_other_cpu"] = round(pair[1]["cpu_s"] / row["cpu_s"], 3)
            print("  ".join(f"{key}={value}" for key, value in row.items()), flush=True)
        rows += pair
    return rows


def _turns(count: int, other: Path, mode: str, rounds: int) -> dict[str, list[dict]]:
    here = Path(__file__).parents[1]
    # this file measures both: only the library is another
    found: dict[str, list[dict]] = {"this": [], "other": []}
    with tempfile.TemporaryDirectory() as folder:
        for index in range(count):
            _photograph(index, Path(folder) / f"{index:04}.jpg", damaged=mode == "auto")
        for turn in range(rounds):
            for name in ("this", "other") if turn % 2 == 0 else ("other", "this"):
                command = [sys.executable, __file__, "stream", folder, str(count), mode]
                given = os.environ | {"PYTHONPATH": str(here if name == "this" else other.resolve())}
                run = subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder, env=given)
                found[name].append(json.loads(run.stdout.splitlines()[-1]))
                print(mode, name, found[name][-1], flush=True)
    return found


def _revision(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def _row(count: int, mode: str, name: str, runs: list[dict]) -> dict:
    wall, processor, start = (
        round(statistics.median(run[key] for run in runs), 2) for key in ("wall_s", "cpu_s", "start_up_cpu_s")
    )
    faces = {run["faces"] for run in runs}
    row = {"op": "photographs", "n": count, "mode": mode, "impl": name}
    row |= {"faces": faces.pop() if len(faces) == 1 else None, "rounds": len(runs)}
    row |= {"wall_s": wall, "cpu_s": processor, "start_up_cpu_s": start, "photos_per_s": round(count / wall, 3)}
    row["photos_per_cpu_s"] = round(count / processor, 3)
    stages = {stage: round(statistics.median(run["stages_cpu_s"][stage] for run in runs), 3) for stage in STAGES}
    row |= {"stages_cpu_s": stages, "detect_share": round(stages["detect"] / sum(stages.values()), 3)}
    return row


def measure(impl: str, folder: Path, count: int, mode: str = "always") -> dict:
    """Restores the first photographs of a folder, and gives seconds, CPU seconds by stage, and the peak of memory."""
    from codeprior.commands._restoring import bound_memory
    from codeprior.photos import read, write
    from codeprior.photos.faces import detector, search
    from codeprior.photos.restoration import Choices, Prepared, answer, finish, prepare
    from codeprior.photos.stream import stream
    from codeprior.recipes.daefr import load

    torch.set_num_threads(1)
    bound_memory()
    restorer, find, choices = load("small"), detector(), Choices(colour=True)
    written = ".png" if mode == "always" else ".jpg"  # as the photographs that came
    judge = restorer.judge if mode == "auto" else None
    spent, faces = dict.fromkeys(STAGES, 0.0), []

    def timed(stage: str, work: Callable, *given, **named):
        # CPU time of this thread: waiting for the processor is not work
        started = time.thread_time()
        result = work(*given, **named)
        spent[stage] += time.thread_time() - started
        return result

    def begin(path: Path):
        pixels = timed("decode", read, path).pixels
        found = timed("detect", search, find, pixels)
        return timed("align", prepare, pixels, None, size=restorer.size, choices=choices, faces=found, judge=judge)

    def network(images: torch.Tensor, fidelities: Sequence[float | None]):
        faces.append(len(images))
        return timed("network", answer, restorer, images, fidelities=fidelities)

    def alone(prepared: Prepared):
        return network(torch.stack([prepared.crops[at].image for at in prepared.asked]), prepared.fidelities)

    def end(path: Path, prepared, restored) -> None:
        done = timed("paste", finish, prepared, restored, choices=choices)
        timed("write", write, path.with_name(f"{path.stem}-{impl[:3]}{written}"), done.pixels, overwrite=True)

    paths = sorted(folder.glob("????.jpg"))[:count]
    # what is loaded and compiled once is not the photographs'
    first = next(prepared for path in paths if (prepared := begin(path)).asked)
    end(paths[0], first, alone(first))
    spent.update(dict.fromkeys(STAGES, 0.0))
    faces.clear()
    before, wall, processor = _peak(), time.monotonic(), time.process_time()
    if impl == "stream":
        for outcome in stream(paths, network, prepare=begin, finish=end):
            if outcome.error:
                raise outcome.error
    else:
        for path in paths:
            prepared = begin(path)
            end(path, prepared, alone(prepared))
    return {
        "faces": sum(faces), "forwards": len(faces), "start_up_cpu_s": round(processor, 2),
        "wall_s": round(time.monotonic() - wall, 2), "cpu_s": round(time.process_time() - processor, 2),
        "stages_cpu_s": {stage: round(seconds, 2) for stage, seconds in spent.items()},
        "peak_bytes": _peak(), "peak_bytes_after_one": before,
    }  # fmt: skip


def _peak() -> int:
    """The most memory this process has held so far, bytes."""
    status = Path("/proc/self/status").read_text().split()
    return int(status[status.index("VmHWM:") + 1]) * 1024


def _photograph(index: int, path: Path, *, damaged: bool = False) -> None:
    from PIL import Image
    from skimage import data

    from codeprior.photos import write
    from codeprior.photos.faces import Crop, align, paste

    rng = np.random.default_rng(index)
    pictures = (data.coffee, data.chelsea, data.rocket, data.astronaut)
    canvas = _planes(pictures[index % 3]())
    height = int(rng.integers(480, 1081))
    size = (height, round(height * float(rng.uniform(1.0, 1.6))))
    photo = (F.interpolate(canvas, size=size, mode="bicubic", antialias=True).clamp(0, 1) * 255).round()
    pixels = rearrange(photo[0].to(torch.uint8), "c h w -> h w c").numpy()
    eyes = np.array([(205.0, 112.0), (251.0, 109.0), (228.0, 144.0), (207.0, 158.0), (254.0, 156.0)])
    face = align(pictures[3](), eyes, size=512)
    places = int(rng.integers(1, 4))
    for place in range(places):  # side by side, so that none hides another
        side = float(rng.uniform(0.35, 0.75)) * min(height, size[1] / places)
        left = (place + 0.5) * size[1] / places - side / 2
        corner = np.array([[side / 512, 0, left], [0, side / 512, float(rng.uniform(0, height - side))]])
        pixels = paste(pixels, [Crop(face.image, corner)])
    if not damaged:
        write(path, pixels)
        return
    # reduced by 2 to 5, noise of 2 to 10 levels, JPEG of quality 40 to 89
    whole, factor = Image.fromarray(pixels), float(rng.uniform(2, 5))
    reduced = whole.resize((round(size[1] / factor), round(height / factor)), Image.Resampling.BICUBIC)
    blurred = np.asarray(reduced.resize(whole.size, Image.Resampling.BICUBIC))
    noisy = blurred + rng.normal(0, float(rng.uniform(2, 10)), blurred.shape)
    quality = int(rng.integers(40, 90))
    Image.fromarray(noisy.round().clip(0, 255).astype(np.uint8)).save(path, quality=quality)


def _planes(picture: np.ndarray) -> torch.Tensor:
    return rearrange(torch.from_numpy(picture.copy()), "h w c -> 1 c h w").float() / 255


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])))

"""The whole DAEFR forward against the same arithmetic written out plainly, and a folder of photographs one by one.

    python -m benchmarks.restore --quick --json rows.json

Weights are random but fixed: time does not depend on them. Every row says how many codes agree with the plain form in
fp32, and the PSNR of its image against the plain one's. `--quick` takes the small network; without it the released
sizes at 512 pixels, a forward of which needs some twenty CPU seconds.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from einops import rearrange

from benchmarks import _plain
from benchmarks._measure import about, arguments, interleaved, peak_bytes, report
from codeprior.images import to_unit
from codeprior.metrics import psnr
from codeprior.recipes.daefr import recipes
from codeprior.recipes.daefr.model import DAEFR, restorer, vqgan
from codeprior.recipes.daefr.restore import Restorer

Forward = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def main() -> int:
    given = arguments(__doc__.splitlines()[0])
    if not torch.cuda.is_available():
        torch.set_num_threads(1)  # CPU time is only comparable on one thread
    device = "cuda" if torch.cuda.is_available() else "cpu"
    recipe = recipes.restoration_small() if given.quick else recipes.restoration()
    torch.manual_seed(0)
    model = restorer(recipe, vqgan(recipe.network).prior()).to(device).eval()
    assert isinstance(model, DAEFR)
    facts = about() | {"pixels": recipe.network.size}
    rows = _forwards(model, recipe.network.size, device, facts, quick=given.quick)
    rows += _photographs(model, facts, count=16 if given.quick else 100)
    report(rows, given, missing=[])
    return 0


def _forwards(model: DAEFR, size: int, device: str, facts: dict, *, quick: bool) -> list[dict]:
    rows = []
    for batch in (1, 4) if quick else (1,):
        generator = torch.Generator().manual_seed(1)
        image = (2 * torch.rand(batch, 3, size, size, generator=generator) - 1).to(device)
        providers = {name: _bound(forward, image) for name, forward in _providers(model, device, quick).items()}
        truth, codes = providers["plain"]()
        times = interleaved(providers, seconds=5 if quick else 400, rounds=5)
        for impl, run in providers.items():
            restored, indices = run()
            row = {"op": "forward", "batch": batch, "impl": impl, "ms": times[impl][1], "ms_quantiles": times[impl]}
            row["speedup"] = round(times["plain"][1] / times[impl][1], 3)
            row["codes_equal"] = round(float((indices == codes).double().mean()), 6)
            row["psnr"] = round(float(psnr(to_unit(restored.float()), to_unit(truth)).mean().clamp(max=200)), 1)
            row["peak_bytes"] = peak_bytes(run)
            rows.append(row | facts)
            print("  ".join(f"{key}={row[key]}" for key in row if key != "ms_quantiles"), flush=True)
    return rows


def _providers(model: DAEFR, device: str, quick: bool) -> dict[str, Forward]:
    def ours(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        indices = model(image).logits.argmax(-1)
        return model.prior.decode(indices), indices

    providers: dict[str, Forward] = {"plain": lambda image: _plain.restore(model, image), "codeprior": ours}
    # convolutions follow the layout of what they are given, so only the image is turned
    providers["codeprior-channels_last"] = lambda image: ours(image.contiguous(memory_format=torch.channels_last))
    if not quick:
        providers["codeprior-compiled"] = torch.compile(ours)
    if device == "cuda":
        half = torch.autocast("cuda", torch.bfloat16)
        providers["codeprior-bf16"] = lambda image: half(ours)(image)
    return providers


def _bound(forward: Forward, image: torch.Tensor) -> Callable[[], tuple[torch.Tensor, torch.Tensor]]:
    def run() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.inference_mode():
            return forward(image)

    return run


def _photographs(model: DAEFR, facts: dict, *, count: int) -> list[dict]:
    """A folder through `stream`, and the same photographs one after the other: time, where it went, memory."""
    from codeprior.photos import read, write
    from codeprior.photos.faces import detector, from_landmarks, template
    from codeprior.photos.restoration import Choices, answer, finish, prepare
    from codeprior.photos.stream import stream

    restoring, find, choices = Restorer(model), detector(), Choices()
    spent: dict[str, float] = {}

    def timed(stage: str, work: Callable, *given, **named):
        started = time.thread_time()
        result = work(*given, **named)
        spent[stage] = spent.get(stage, 0.0) + time.thread_time() - started
        return result

    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for index in range(count):
            paths.append(Path(folder) / f"{index:03}.jpg")
            write(paths[-1], _photograph(index))

        def begin(path: Path):
            pixels = timed("decode", read, path).pixels
            timed("detect", find, pixels)
            known = from_landmarks([(template(260) + 60).tolist()])
            return timed("align", prepare, pixels, None, size=restoring.size, choices=choices, faces=known)

        def network(images: torch.Tensor):
            return timed("network", answer, restoring, images)

        def end(path: Path, prepared, restored) -> None:
            done = timed("paste", finish, prepared, restored, choices=choices)
            timed("write", write, path.with_suffix(".png"), done.pixels, overwrite=True)

        def singly() -> None:
            for path in paths:
                prepared = begin(path)
                end(path, prepared, network(torch.stack([crop.image for crop in prepared.crops])))

        def together(part: list[Path]) -> None:
            for outcome in stream(part, network, prepare=begin, finish=end, batch=8):
                if outcome.error:
                    raise outcome.error

        rows = []
        few = peak_bytes(lambda: together(paths[: count // 4]))
        for impl, run in (("one by one", singly), ("stream", lambda: together(paths))):
            spent.clear()
            wall, processor = time.monotonic(), time.process_time()
            peak = peak_bytes(run)
            row = {"op": "photographs", "n": count, "impl": impl, "wall_s": round(time.monotonic() - wall, 2)}
            row["cpu_s"] = round(time.process_time() - processor, 2)
            row["stages_cpu_s"] = {stage: round(seconds, 2) for stage, seconds in spent.items()}
            row["peak_bytes"] = peak
            rows.append(row | facts)
        rows[1]["ratio"] = round(rows[0]["wall_s"] / rows[1]["wall_s"], 3)
        rows[1]["peak_bytes_quarter"] = few
        for row in rows:
            print({key: value for key, value in row.items() if key not in facts}, flush=True)
        return rows


def _photograph(index: int) -> np.ndarray:
    generator = torch.Generator().manual_seed(index)
    coarse = torch.rand(1, 3, 20, 26, generator=generator)
    image = torch.nn.functional.interpolate(coarse, size=(480, 640), mode="bicubic").clamp(0, 1)[0]
    return rearrange((image * 255).round().to(torch.uint8), "c h w -> h w c").numpy()


if __name__ == "__main__":
    sys.exit(main())

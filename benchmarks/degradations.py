"""Degradations against the written-out OpenCV chain and the peers that are installed: CPU time an image, one thread.

    python -m benchmarks.degradations --quick --json rows.json

Every image of every chain runs once per implementation, the order turned each time, with the same drawn values. `ms` is
the mean, `ratio` the OpenCV chain's mean over it with a bootstrap interval, `identical` the share of images that equal
the OpenCV chain's. The OpenCV chain draws NumPy's legacy noise, as the training scripts do; for the comparison of
images it is given ours. It begins with float pixels and ends with 8-bit planes, ours begins and ends with those.
"""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks._degradation_peers import cv2_chain, normal_noise, peers
from benchmarks._loading import loading_rows
from benchmarks._measure import Given, options, report
from codeprior.degradations import Chain, Jpeg, Maybe, Op, Params, preset

Ways = dict[str, Callable[[int], Any]]

CHAINS = ("daefr", "codeformer-II", "daefr-codebook-lq", "gfpgan")
SIDE = 512


def main() -> int:
    parser = options(__doc__.splitlines()[0])
    parser.add_argument("--device", action="store_true", help="only batches on the GPU, beside a few images of OpenCV")
    asked = parser.parse_args()
    given = Given(asked.quick, asked.json, asked.plot)
    torch.set_num_threads(1)
    images = photographs()
    if asked.device:
        rows = chain_rows("daefr", images, 24, against_peers=False)
        report(rows, given, missing=[])
        rows += device_rows(images, next(row["ms"] for row in rows if row["impl"] == "cv2"))
        report(rows, given, missing=[])
        return 0
    rows: list[dict] = []
    for name in CHAINS[:3] if given.quick else CHAINS:
        rows += chain_rows(name, images, 40 if given.quick else 300)
    rows += second_order_rows(images, 4 if given.quick else 60)
    rows += loading_rows(images, 48 if given.quick else 400)
    if not given.quick:
        rows += jpeg_rows(images)
    if torch.cuda.is_available():
        chain_ms = next(row["ms"] for row in rows if row["preset"] == "daefr" and row["impl"] == "cv2")
        rows += device_rows(images, chain_ms)
    missing = [name for name in ("kornia", "albumentations", "torchvision") if name not in peers()]
    if given.plot is not None:
        plot(rows, given.plot)
    report(rows, given._replace(plot=None), missing=missing)
    return 0


def photographs() -> torch.Tensor:
    """Faces and animals of scikit-image, `b 3 512 512`, uint8."""
    import cv2
    from skimage import data

    pictures = [data.astronaut(), data.chelsea()[:, 75:375], data.coffee()[:, 100:500]]
    resized = [cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for picture in pictures]
    return torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).contiguous()


def chain_rows(name: str, images: torch.Tensor, count: int, *, against_peers: bool = True) -> list[dict]:
    # the colour steps of gfpgan are no part of the written-out chain, and so of no side
    op = Chain(ops=tuple(part for part in preset(name).ops if not isinstance(part, Maybe)))
    drawn = op.sample((count, SIDE, SIDE), torch.Generator().manual_seed(0))
    pixels = [
        np.ascontiguousarray(image.permute(1, 2, 0).numpy()[..., ::-1].astype(np.float32) / 255) for image in images
    ]

    def classic(number: int, noise: Callable = legacy_noise) -> torch.Tensor:
        return cv2_chain(pixels[number % 3], drawn[number], noise)

    ways: Ways = {
        "cv2": classic,
        "codeprior": lambda number: op.apply(images[number % 3], drawn[number]),
        "codeprior-strict": lambda number: op.apply(images[number % 3], drawn[number], mode="strict"),
    }
    times = interleaved_images(ways, count, label=name)
    if name == "daefr" and against_peers and peers():
        # the peers are several times slower and draw their own values, so fewer images tell as much
        others: Ways = {peer: lambda number, run=run: run(images[number % 3]) for peer, run in peers().items()}
        times |= interleaved_images(others, max(4, count // 8), label=f"{name}, peers")
    rows = []
    for impl, spent in times.items():
        same = None
        if impl.startswith("codeprior"):
            run, equal = ways[impl], []
            for number in counted(count, f"{name}, {impl} against the OpenCV chain"):
                equal.append(torch.equal(run(number), classic(number, normal_noise)))
            same = float(np.mean(equal))
        rows.append(row(name, impl, spent, times["cv2"], same))
    return rows


def legacy_noise(params: Params, height: int, width: int) -> np.ndarray:
    return np.asarray(np.random.randn(height, width, 3), np.float32)


def counted(count: int, label: str) -> Iterator[int]:
    """Numbers below `count`; every ten seconds it is said how far they have come."""
    last = time.monotonic()
    for number in range(count):
        yield number
        if time.monotonic() - last > 10:
            last = time.monotonic()
            print(f"  {label}: {number + 1} of {count}", file=sys.stderr, flush=True)


def interleaved_images(ways: Ways, count: int, *, label: str) -> dict[str, np.ndarray]:
    """Milliseconds of CPU time of each way for each image."""
    names, spent = list(ways), {name: np.zeros(count) for name in ways}
    for name in names:
        ways[name](0)
    for number in counted(count, label):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            start = time.process_time()
            ways[name](number)
            spent[name][number] = 1e3 * (time.process_time() - start)
    return spent


def row(name: str, impl: str, spent: np.ndarray, base: np.ndarray | None, same: float | None) -> dict:
    found: dict = {"preset": name, "impl": impl, "images": len(spent), "ms": round(float(spent.mean()), 3)}
    found["ms_quantiles"] = [round(float(value), 3) for value in np.quantile(spent, [0.2, 0.5, 0.8])]
    found["ratio"] = found["ratio_95"] = None
    if base is not None:
        found["ratio"] = round(float(base.mean() / spent.mean()), 3)
        if len(base) == len(spent):
            draw = np.random.default_rng(0).integers(0, len(spent), (2000, len(spent)))
            ratios = base[draw].mean(1) / spent[draw].mean(1)
            found["ratio_95"] = [round(float(value), 2) for value in np.quantile(ratios, [0.025, 0.975])]
    found["identical"] = None if same is None else round(same, 4)
    print(
        "  ".join(f"{key}={found[key]}" for key in ("preset", "impl", "ms", "ratio", "ratio_95", "identical")),
        flush=True,
    )
    return found


def second_order_rows(images: torch.Tensor, count: int) -> list[dict]:
    """Real-ESRGAN's chain, 400² to 100²."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        op: Op = preset("realesrgan")
    small = images[:, :, 56:456, 56:456].contiguous()
    drawn = op.sample((count, 400, 400), torch.Generator().manual_seed(0))
    ways: Ways = {"codeprior": lambda number: op.apply(small[number % 3], drawn[number])}
    times = interleaved_images(ways, count, label="realesrgan")
    return [row("realesrgan", impl, spent, None, None) for impl, spent in times.items()]


def jpeg_rows(images: torch.Tensor) -> list[dict]:
    """Exact JPEG in torch against libjpeg, 512², quality 65."""
    op = Jpeg(quality=(65, 65))
    drawn = op.sample((1, SIDE, SIDE), torch.Generator().manual_seed(0))
    ways: Ways = {
        "libjpeg": lambda number: op.apply(images[number % 3], drawn, impl="cpu"),
        "codeprior-torch": lambda number: op.apply(images[number % 3], drawn, impl="torch"),
    }
    times = interleaved_images(ways, 30, label="jpeg")
    same = float(np.mean([torch.equal(ways["libjpeg"](n), ways["codeprior-torch"](n)) for n in range(3)]))
    return [row("jpeg", impl, spent, times["libjpeg"], same) for impl, spent in times.items()]


def device_rows(images: torch.Tensor, chain_ms: float) -> list[dict]:
    """Batches of 64 of 512² on the GPU: wall clock an image, over the CPU time of the OpenCV chain on one core."""
    rows, numbers = [], torch.arange(64) % 3
    batch = images[numbers].cuda()
    for name, op in (("daefr", preset("daefr")), ("jpeg", Jpeg(quality=(30, 100)))):
        spent = []
        for seed in range(12):
            drawn = op.sample((64, SIDE, SIDE), torch.Generator().manual_seed(seed))
            torch.cuda.synchronize()
            start = time.perf_counter()
            result = op.apply(batch, drawn)
            torch.cuda.synchronize()
            spent.append(1e3 * (time.perf_counter() - start) / 64)
        truth = op.apply(images[numbers], drawn, mode="strict")
        same = float((result.cpu() == truth).flatten(1).all(1).float().mean())
        base = np.array([chain_ms]) if name == "daefr" else None
        rows.append(row(name, "codeprior-cuda-batch64", np.array(spent[2:]), base, same))
    return rows


def plot(rows: list[dict], folder: Path) -> None:
    """One picture: milliseconds an image of each way, a group of bars a preset."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    figure, axis = pyplot.subplots(figsize=(9, 0.35 * len(rows) + 1), layout="constrained")
    names = [f"{row['preset']}  {row['impl']}" for row in rows]
    axis.barh(names, [row["ms"] for row in rows], color=["C0" if "codeprior" in name else "C7" for name in names])
    axis.invert_yaxis()
    axis.set_xscale("log")
    axis.set_xlabel("CPU milliseconds an image, one thread")
    figure.savefig(folder / "degradations.png", dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    raise SystemExit(main())

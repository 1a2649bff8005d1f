"""Ceilings of this machine, measured in the same run: what memory, products and comparisons allow at best."""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from benchmarks._measure import interleaved

_REPEATS = 64


class Roofs(NamedTuple):
    """Rates of this machine, per millisecond."""

    bytes: float
    """Copied from memory to memory, read and written counted once each."""
    products: float
    """Multiplications with an addition, of a large matrix product: float32 on the CPU, float16 on a GPU."""
    comparisons: float
    """Smaller of two numbers: a reduction in a cache on the CPU; on a GPU 64 lanes a multiprocessor, not measured."""
    start: float
    """Milliseconds of an operation on one number."""


class Roof(NamedTuple):
    ms: float
    bound: str
    """What sets it: "memory", "products", "comparisons" or "start"."""


def measured(device: str) -> Roofs:
    """Takes the rates, in about two seconds on a CPU."""
    large, side = (2**28, 8192) if device == "cuda" else (2**24, 1024)
    kind = torch.float16 if device == "cuda" else torch.float32
    source, target = torch.empty(large, device=device).fill_(1), torch.empty(large, device=device)
    first, second, out = (torch.randn(side, side, device=device).to(kind) for _ in range(3))
    one, numbers = torch.zeros(1, device=device), torch.randn(2**15)

    def compare() -> None:
        for _ in range(_REPEATS):
            numbers.amin()

    probes: dict[str, Callable[[], object]] = {
        "copy": lambda: target.copy_(source),
        "products": lambda: torch.mm(first, second, out=out),
        "start": lambda: one.add_(1),
    }
    if device == "cpu":
        probes["comparisons"] = compare
    # the fastest of the runs: a ceiling
    times = {name: quantiles[0] for name, quantiles in interleaved(probes, seconds=2).items()}
    return Roofs(
        bytes=8 * large / times["copy"],
        products=side**3 / times["products"],
        comparisons=_lanes() if device == "cuda" else _REPEATS * len(numbers) / times["comparisons"],
        start=_start(probes["start"]) if device == "cpu" else times["start"],
    )


def roof(roofs: Roofs, n: int, k: int, d: int, *, writes_codes: bool, itemsize: int = 4) -> Roof:
    """Gives the least time that a lookup of this size could take: the largest of four.

    Rows and table are read once, indices (and codes) are written once; every score costs d products and a comparison.
    """
    moved = itemsize * d * (n + k + (n if writes_codes else 0)) + 8 * n
    parts = {
        "memory": moved / roofs.bytes,
        "products": n * k * d / roofs.products,
        "comparisons": n * k / roofs.comparisons,
        "start": roofs.start,
    }
    bound = max(parts, key=lambda name: parts[name])
    return Roof(parts[bound], bound)


def _lanes() -> float:
    properties = torch.cuda.get_device_properties(0)
    # newer versions of torch do not tell the clock, kHz: an H100's is taken then
    return 64.0 * properties.multi_processor_count * getattr(properties, "clock_rate", 1_755_000)


def _start(run: Callable[[], object]) -> float:
    start = time.process_time()
    for _ in range(1000):
        run()
    return time.process_time() - start

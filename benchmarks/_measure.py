"""Interleaved CPU-time medians, peak memory, and one row format for every benchmark."""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import torch

Providers = dict[str, Callable[[], object]]


def arguments(description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="few sizes; ends within 50 s on 2 cores")
    parser.add_argument("--json", type=Path, help="write the rows here")
    return parser.parse_args()


def interleaved(providers: Providers, *, seconds: float, rounds: int = 9) -> dict[str, list[float]]:
    """Milliseconds of every provider, [p20, p50, p80]: CPU time on the CPU, the order turned in every round."""
    times: dict[str, list[float]] = {name: [] for name in providers}
    names = list(providers)
    for name in names:
        providers[name]()
    end = time.monotonic() + seconds
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            times[name].append(_timed(providers[name]))
        if time.monotonic() > end and turn >= 1:
            break
    return {name: _quantiles(values) for name, values in times.items()}


def peak_bytes(run: Callable[[], object]) -> int | None:
    """Device memory above what was there; on the CPU the rise of the process's high-water mark."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    if not _reset_high_water():
        return None
    before = _status("VmRSS")
    run()
    return max(0, _status("VmHWM") - before)


def report(rows: list[dict], target: Path | None, *, missing: list[str]) -> None:
    for name in missing:
        print(f"missing: {name}")
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(rows, indent=1) + "\n")


def show(row: dict) -> None:
    columns = ["op", "n", "k", "d", "impl", "ms", "ratio", "wrong", "peak_bytes"]
    print("  ".join(f"{key}={row.get(key)}" for key in columns), flush=True)


def about() -> dict[str, object]:
    """What every row says of its run."""
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    return {
        "device": device,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "git": found.stdout.strip(),
        "date": time.strftime("%Y-%m-%d"),
    }


def _timed(run: Callable[[], object]) -> float:
    if torch.cuda.is_available():
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        return start.elapsed_time(end)
    start = time.process_time()
    run()
    return 1e3 * (time.process_time() - start)


def _quantiles(values: list[float]) -> list[float]:
    cut = statistics.quantiles(values, n=10, method="inclusive")
    return [round(value, 4) for value in (cut[1], cut[4], cut[7])]


def _reset_high_water() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 0


def _status(key: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024

"""Interleaved medians, peak memory, and one row format for every benchmark.

On the CPU a time is CPU time on one thread, which other work on the machine disturbs least; on a GPU it is
the time between two events.
"""

import argparse
import ctypes
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch

Providers = dict[str, Callable[[], object]]
# of the floor's times, (p80 - p20) / median: on a quiet machine a product of matrices stays within a few per cent
_STEADY = 0.15


class Given(NamedTuple):
    quick: bool
    json: Path | None
    plot: Path | None


def options(description: str) -> argparse.ArgumentParser:
    """Gives a parser with the words that every benchmark takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="few sizes; ends within 50 s on 2 cores")
    parser.add_argument("--json", type=Path, help="write the rows here")
    parser.add_argument("--plot", type=Path, help="draw the rows into this folder")
    return parser


def arguments(description: str) -> Given:
    """Parses them, where there are no others."""
    found = options(description).parse_args()
    return Given(found.quick, found.json, found.plot)


@contextmanager
def settled() -> Iterator[str]:
    """One thread on the CPU, and one seed; gives the device's type."""
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        torch.set_num_threads(1)
    yield device


def interleaved(
    providers: Providers, *, seconds: float, rounds: int = 15, warm: bool = False
) -> dict[str, list[float]]:
    """Milliseconds of every provider, [p20, p50, p80]; the order is turned in every round.

    `warm` says that each has run already; otherwise each runs once before it is timed.
    """
    times: dict[str, list[float]] = {name: [] for name in providers}
    names = list(providers)
    for name in () if warm else names:
        providers[name]()
    end = time.monotonic() + seconds
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            times[name].append(_timed(providers[name]))
        if time.monotonic() > end and turn >= 2:
            break
    return {name: _quantiles(values) for name, values in times.items()}


def peak_bytes(run: Callable[[], object]) -> int | None:
    """The most memory that was held above inputs and outputs; None where the system does not tell."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = run()
        torch.cuda.synchronize()
        return max(0, torch.cuda.max_memory_allocated() - before - _held(result))
    try:
        # memory that the allocator keeps would hide what is used: hand it back, then reset the high-water mark
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):
        return None
    before = _status("VmRSS")
    result = run()
    return max(0, _status("VmHWM") - before - _held(result))


def rows_of(
    op: str, sizes: Mapping[str, int | str], providers: Providers, *, floor: str, seconds: float
) -> Iterator[dict]:
    """Times the providers of one op; yields their rows and prints each. `floor` is the provider the others are over."""
    times = interleaved(providers, seconds=seconds)
    for impl, run in providers.items():
        ms, least = times[impl], times[floor][1]
        row = {"op": op, **sizes, "impl": impl, "ms": ms[1], "ms_quantiles": ms, "floor": floor, "floor_ms": least}
        row |= {"over_floor": round(ms[1] / least, 3), "spread": _spread(ms), "wrong": None}
        row["peak_bytes"] = peak_bytes(run)
        yield row
        peak = "?" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 1e6:.0f} MB"
        size = " ".join(f"{key}={value}" for key, value in sizes.items())
        wrong = "" if row["wrong"] is None else f"  wrong {row['wrong']}"
        time_of_it = f"{ms[1]:9.2f} ms ±{50 * row['spread']:3.0f} %"
        print(f"{op:17s} {size:24s} {impl:28s} {time_of_it}  x{row['over_floor']:<7} {peak}{wrong}", flush=True)


def why_busy(rows: list[dict], *, load: float, processors: int) -> str | None:
    """Gives why the machine was too busy for these rows to be judged, or None.

    Args:
        rows: As `rows_of` gives them. The floor is interleaved with all others: its times tell how steady the machine
            was during each of them.
        load: Processes that ran or waited to, the mean over a minute; the benchmark is one of them.
        processors: How many there are.
    """
    floors = {(row["op"], *_key(row)): _spread(row["ms_quantiles"]) for row in rows if row["impl"] == row.get("floor")}
    reasons = []
    if floors and statistics.median(floors.values()) > _STEADY:
        spread = statistics.median(floors.values())
        reasons.append(f"the floor's own times differ by {100 * spread:.0f} %, {100 * _STEADY:.0f} % is the most")
    # beside the benchmark itself, half of the other processors' time
    if load - 1 > max(0.5, (processors - 1) / 2):
        reasons.append(f"{load:.1f} processes ran or waited for {processors} processors")
    return "; ".join(reasons) or None


def _spread(quantiles: list[float]) -> float:
    low, middle, high = quantiles
    return round((high - low) / middle, 3) if middle else 0.0


def compared(rows: list[dict]) -> None:
    """Adds to each row of ours its ratio to the fastest peer of the same op and size, and prints the best of ours."""
    print("\nours over the fastest peer of the same run, and over the floor:")
    for key in dict.fromkeys(_key(row) for row in rows):
        same = [row for row in rows if _key(row) == key and row["impl"] != row["floor"]]
        ours = [row for row in same if row["impl"].startswith("codeprior")]
        peers = [row for row in same if row not in ours]
        # the fast mode leaves out the certificate: it has a row, but is not what is promised
        exact = [row for row in ours if not row["impl"].endswith("fast")]
        for row in ours if peers else ():
            row["over_best_peer"] = round(row["ms"] / min(peer["ms"] for peer in peers), 3)
        if exact and peers:
            best, peer = (min(part, key=lambda row: row["ms"]) for part in (exact, peers))
            case = " ".join(map(str, key))
            print(f"  {case:36s} {best['impl']:20s} x{best['over_best_peer']} of {peer['impl']}, x{best['over_floor']}")


def report(rows: list[dict], given: Given, *, missing: list[str], left_out: list[str] = ()) -> None:
    """Says which peers were missing and whether the machine was too busy, and writes what was asked for."""
    for name in missing:
        print(f"missing peer: {name} is not installed, or does not run on this device")
    for name in left_out:
        print(f"left out by --quick: {name}")
    busy = why_busy(rows, load=os.getloadavg()[0], processors=os.cpu_count() or 1)
    if busy is not None:
        print(f"TOO BUSY TO JUDGE: {busy}. Compare nothing with these times; run again on a quiet machine.")
    facts = about() | {"missing_peers": missing, "left_out": list(left_out), "busy": busy}
    if given.json is not None:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps([row | facts for row in rows], indent=1) + "\n")
    if given.plot is not None:
        from benchmarks._plots import draw

        draw(rows, given.plot)


def about() -> dict[str, object]:
    """What every row says of its run."""
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else _processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "git": _revision(),
        "date": time.strftime("%Y-%m-%d"),
        "load": round(os.getloadavg()[0], 1),
    }


def _revision() -> str:
    """The commit; of a copy without its history the one that `CODEPRIOR_REVISION` names."""
    if named := os.environ.get("CODEPRIOR_REVISION"):
        return named
    try:
        found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return found.stdout.strip() or "unknown"


def _key(row: dict) -> tuple:
    return tuple(row[name] for name in ("op", "n", "k", "d") if name in row)


def _processor() -> str:
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


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
    # of a single run all quantiles are that run
    cut = statistics.quantiles(values if len(values) > 1 else 2 * values, n=10, method="inclusive")
    return [round(value, 4) for value in (cut[1], cut[4], cut[7])]


def _held(result: object) -> int:
    if isinstance(result, torch.Tensor):
        return result.numel() * result.element_size()
    return sum(map(_held, result)) if isinstance(result, tuple) else 0


def _status(key: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024

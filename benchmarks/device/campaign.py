"""A run of minutes on a GPU that is lent: every step a process of its own, results after every step, one archive.

    make campaign FACES=folder                    # here: packs what must travel into campaign/, under 40 MiB
    python3 -m benchmarks.device.campaign --call correctness --out "$OUT"     # there; hand the machine back and read
    python3 -m benchmarks.device.campaign --call tune --out "$OUT"
    python3 -m benchmarks.device.campaign --call train --out "$OUT" --minutes 8
    TRITON_INTERPRET=1 python -m benchmarks.device.campaign --call tune --dry --out /tmp/campaign    # tiny, on a CPU

A step that fails or takes too long ends alone; `summary.json` is written anew after each, with its exit status, seconds
and log. Steps that compile and test run side by side; whatever is timed has the GPU to itself. The command itself ends
with 0 whatever its steps did, and prints last what became of each, every failed test with its error, and the times, in
less than 12,000 characters. `--only rows,profile` runs these steps alone. The archive leaves out what would exceed
16 MiB.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.device.prior import PLANS

ARCHIVE = 16 * 2**20  # bytes
_SUMMARY = "summary.json"
_ROOM = 11_000  # characters of what is printed last
# what asks a GPU; the other tests of the room are about processors, wheels and compilers without a device
TESTS = (
    "accumulation", "blur_resize", "certified", "choose", "contrastive", "every_way", "group_norm_silu", "jpeg",
    "launches", "normal_field", "ops", "residual",
)  # fmt: skip
# ranks are forked, which a process that uses a GPU cannot be; the others compile for a GPU that is not there, take a
# hundred qualities that one test takes together, or never ask the device
_WITHOUT = "not two_ranks and not compiles_for and not at_any_quality and not exported and not shapes_are_known"
_DRY_SECONDS = 900


class Step(NamedTuple):
    name: str
    command: list[str]
    seconds: float
    beside: bool = False
    """Whether it runs beside the step before it."""


def steps_of(call: str, out: Path, pack: Path, *, dry: bool = False, minutes: float = 8.0) -> list[Step]:
    """Gives the steps of one call.

    Args:
        call: `"correctness"`, `"tune"` or `"train"`.
        out: Folder of the results.
        pack: What `make campaign` packed.
        dry: Tiny sizes, for Triton's interpreter.
        minutes: What training may take in all.
    """
    python, quick = sys.executable, ["--dry"] if dry else []
    device = "benchmarks.device"
    warm = [python, "-m", f"{device}.warm", *quick]
    rows = Step("rows", [python, "-m", f"{device}.rows", *quick, "--json", str(out / "rows.json")], 75)
    if call == "correctness":
        tests = [python, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--tb=short", "--color=no", "--junitxml"]
        tests.append(str(out / "tests.xml"))
        if dry:
            tests.append("tests/kernels/test_choose.py")
        else:
            tests += [f"tests/kernels/test_{name}.py" for name in TESTS] + ["tests/degradations/test_fused.py"]
            tests += ["-m", "not browser", "-k", _WITHOUT, *_in_parallel()]
        return [
            Step("tests", tests, 120),
            Step("warm", [*warm, "--processes", "7"], 110, beside=True),
            Step("facts", [python, "-c", _FACTS], 60, beside=True),
            *([] if dry else [Step("accumulation", [python, "-m", "benchmarks.accumulation"], 60, beside=True)]),
            rows,
            *([] if dry else [Step("profile", [*rows.command, "--profile", str(out)], 25)]),
        ]
    if call == "tune":
        found = [
            Step("warm", [*warm, "--tiles"], 60),
            Step("tune", [python, "-m", f"{device}.tune_lookup", *quick, "--json", str(out / "tiles.json")], 45),
            rows,
        ]
        return found if dry else [*found, *_others(out)]
    # beside the training itself: the start, and writing the results
    words = ["--stages", *PLANS, "--seconds", f"{60 * minutes:.0f}", "--pack", str(pack), "--out", str(out)]
    return [Step("prior", [python, "-m", f"{device}.prior", *words, *quick], 60 * minutes + 60)]


def _others(out: Path) -> Iterator[Step]:
    """Gives the steps that time what stands on the kernels; each writes a file as `results/<device>/` holds it."""
    asked = {
        "code_stats": (["--quick"], 30), "contrastive": (["--quick"], 30), "group_norm_silu": (["--quick"], 30),
        "degradations": (["--device"], 50), "restore": (["--brief", "--seconds", "4"], 75),
        "training": (["--seconds", "3", "--batch", "8"], 75),
    }  # fmt: skip
    for name, (words, seconds) in asked.items():
        command = [sys.executable, "-m", f"benchmarks.{name}", *words, "--json", str(out / f"{name}.json")]
        yield Step(name, command, seconds)


def _in_parallel() -> list[str]:
    import importlib.util

    words = ["-n", "9", "--dist", "worksteal"] if importlib.util.find_spec("xdist") else []
    # a call of the device that never ends is not interrupted by a signal: the worker ends, and another takes its place
    words += ["--timeout", "100", "--timeout-method", "thread"] if importlib.util.find_spec("pytest_timeout") else []
    return words + (["-p", "no:benchmark"] if importlib.util.find_spec("pytest_benchmark") else [])


_FACTS = """
import torch, triton, subprocess, json
found = {"torch": torch.__version__, "triton": triton.__version__, "cuda": torch.version.cuda}
if torch.cuda.is_available():
    found |= {"device": torch.cuda.get_device_name(), "capability": torch.cuda.get_device_capability()}
    found["properties"] = str(torch.cuda.get_device_properties(0))
print(json.dumps(found))
"""


def environment(pack: Path, *, dry: bool) -> dict[str, str]:
    """Gives what every step finds in its environment: kernels that are compiled, the packed wheels, the revision."""
    found = dict(os.environ)
    # the tests would interpret in silence where they see no device file
    found["TRITON_INTERPRET"] = "1" if dry else "0"
    revision = pack / "REVISION"
    if revision.exists():
        found["CODEPRIOR_REVISION"] = revision.read_text().strip()
    # unpacked: Triton asks for the source of a kernel, which it does not find inside an archive
    paths = [str(path.resolve()) for path in (pack / "site",) if path.is_dir()]
    found["PYTHONPATH"] = os.pathsep.join([str(Path.cwd()), *paths, *filter(None, [found.get("PYTHONPATH")])])
    return found


def run(steps: list[Step], out: Path, variables: dict[str, str]) -> dict[str, Any]:
    """Runs the steps in their order, side by side where they say so; gives and writes what became of each.

    Raises nothing.
    """
    summary: dict[str, Any] = {"began": time.strftime("%Y-%m-%dT%H:%M:%S"), "steps": {}}
    alone = threading.Lock()

    def one(step: Step) -> None:
        start = time.monotonic()
        try:
            status = _run(step, out / f"{step.name}.log", variables)
        except Exception as error:
            status = f"{type(error).__name__}: {error}"
        with alone:
            summary["steps"][step.name] = {
                "status": status, "seconds": round(time.monotonic() - start, 1), "limit": step.seconds,
                "command": step.command, "last": _last_lines(out / f"{step.name}.log"),
            }  # fmt: skip
            _write(out / _SUMMARY, summary)
            print(f"{step.name:20s} {status!s:12s} {time.monotonic() - start:7.1f} s", flush=True)

    groups: list[list[Step]] = []
    for step in steps:
        if step.beside and groups:
            groups[-1].append(step)
        else:
            groups.append([step])
    for group in groups:
        with ThreadPoolExecutor(len(group)) as pool:
            list(pool.map(one, group))
    return summary


def _run(step: Step, log: Path, variables: dict[str, str]) -> int | str:
    with log.open("wb") as stream:
        process = subprocess.Popen(
            step.command, stdout=stream, stderr=subprocess.STDOUT, env=variables, start_new_session=True
        )
        try:
            return process.wait(step.seconds)
        except subprocess.TimeoutExpired:
            return "out of time"
        finally:
            # with everything that it has started and left behind
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _last_lines(log: Path, count: int = 5) -> list[str]:
    try:
        return log.read_text(errors="replace").splitlines()[-count:]
    except OSError:
        return []


def _write(path: Path, summary: dict[str, Any]) -> None:
    try:
        part = path.with_suffix(".part")
        part.write_text(json.dumps(summary, indent=1) + "\n")
        part.replace(path)
    except OSError as error:
        print(f"could not write {path}: {error}", file=sys.stderr)


def told(out: Path, summary: dict[str, Any]) -> str:
    """Gives what a reader needs first, in less than 12,000 characters: steps, failed tests, times."""
    parts = [f"{name}: {step['status']} after {step['seconds']} s" for name, step in summary["steps"].items()]
    for name, step in summary["steps"].items():
        if step["status"] != 0:
            parts += [f"--- {name} ended with {step['status']}", *(line[:200] for line in step["last"][-4:])]
    with contextlib.suppress(OSError, ElementTree.ParseError):
        parts += _tests_told(out / "tests.xml")
    for file in sorted(out.glob("*.json")):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            rows = [] if file.name == _SUMMARY else json.loads(file.read_text())
            parts += [f"--- {file.name}", *map(_row_told, rows)] if isinstance(rows, list) and rows else []
    text = "\n".join(parts)
    return text if len(text) < _ROOM else text[: _ROOM // 2] + "\n[…]\n" + text[-_ROOM // 2 :]


def _tests_told(file: Path) -> Iterator[str]:
    cases = list(ElementTree.parse(file).getroot().iter("testcase"))
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = [case for case in cases if case.find("skipped") is not None]
    yield f"--- tests: {len(cases) - len(failed) - len(skipped)} passed, {len(failed)} failed, {len(skipped)} skipped"
    for case in failed:
        (fault, *_) = [*case.findall("failure"), *case.findall("error")]
        lines = [line[1:].strip() for line in (fault.text or "").splitlines() if line.startswith("E ")]
        said = " | ".join(dict.fromkeys(lines[:1] + lines[-1:])) or fault.get("message", "")
        yield f"FAILED {case.get('classname', '').split('.')[-1]}::{case.get('name')}  {said[:230]}"
    for text in sorted({skip.get("message", "") for case in skipped if (skip := case.find("skipped")) is not None}):
        yield f"skipped: {text[:150]}"


def _row_told(row: dict[str, Any]) -> str:
    words = ("problem", "op", "n", "k", "d", "preset", "data", "dtype", "stage", "batch", "impl", "tiles")
    names = ("ms", "over_floor", "speedup", "wrong", "rows_settled", "rows_of_crowded_slots", "tb_per_s", "tflops",
             "images_per_s", "images_per_second", "identical", "codes_equal", "error")  # fmt: skip
    figures = [f"{name}={row[name]:.4g}" if isinstance(row[name], float) else f"{name}={row[name]}"
               for name in names if row.get(name) is not None]  # fmt: skip
    return " ".join([*(str(row[word]) for word in words if word in row), *figures])[:220]


def archive(out: Path, *, most: int = ARCHIVE) -> Path:
    """Packs the results into one file, the small ones first; what has no room is left out and named."""
    target, left_out, size = out / "results.tar.gz", [], 0
    files = [path for path in out.rglob("*") if path.is_file() and path != target]
    with tarfile.open(target, "w:gz") as tar:
        for path in sorted(files, key=lambda path: path.stat().st_size):
            size += path.stat().st_size
            if size > most:
                left_out.append(f"{path.relative_to(out)} ({path.stat().st_size} bytes)")
            else:
                tar.add(path, str(path.relative_to(out)))
    for name in left_out:
        print(f"left out of the archive: {name}")
    return target


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--call", choices=("correctness", "tune", "train"), required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--pack", type=Path, default=Path("campaign"), help="what `make campaign` packed")
    parser.add_argument("--minutes", type=float, default=8.0, help="of training, all stages together")
    parser.add_argument("--dry", action="store_true", help="tiny sizes, under Triton's interpreter")
    parser.add_argument("--only", help="names of steps, with commas between them; without it, all")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    steps = steps_of(given.call, given.out, given.pack, dry=given.dry, minutes=given.minutes)
    if given.dry:
        # an interpreter beside other work is no measure of what a GPU takes
        steps = [step._replace(seconds=_DRY_SECONDS) for step in steps]
    if given.only:
        steps = [step for step in steps if step.name in given.only.split(",")]
    summary = run(steps, given.out, environment(given.pack, dry=given.dry))
    try:
        text = told(given.out, summary)
        (given.out / "told.txt").write_text(text + "\n")
        print(archive(given.out))
        print(text)
    except Exception as error:
        # the results lie there all the same
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

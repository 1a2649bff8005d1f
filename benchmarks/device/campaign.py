"""A run of minutes on a GPU that is lent: every step a process of its own, results after every step, one archive.

    make campaign FACES=folder                    # here: packs what must travel into campaign/, under 40 MiB
    python3 -m benchmarks.device.campaign --call correctness --out "$OUT"     # there; hand the machine back and read
    python3 -m benchmarks.device.campaign --call tune --out "$OUT"
    python3 -m benchmarks.device.campaign --call train --out "$OUT" --minutes 8
    TRITON_INTERPRET=1 python -m benchmarks.device.campaign --call tune --dry --out /tmp/campaign    # tiny, on a CPU

A step that fails or takes too long ends alone; `summary.json` is written anew after each, with its exit status, seconds
and log. The command itself ends with 0 whatever its steps did. The archive leaves out what would exceed 16 MiB.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any, NamedTuple

ARCHIVE = 16 * 2**20  # bytes
# stages of the second edition of the small DAEFR in their order, and the share of the time that each gets
STAGES = {
    "hq_codebook_small": 0.3, "lq_codebook_small": 0.2, "association_small": 0.15, "restoration_small": 0.25,
    "fidelity_small": 0.1,
}  # fmt: skip
_SUMMARY = "summary.json"
_DRY_SECONDS = 900


class Step(NamedTuple):
    name: str
    command: list[str]
    seconds: float


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
    tests = [python, "-m", "pytest", "-p", "no:cacheprovider", "-q"]
    device = "benchmarks.device"
    rows = [python, "-m", f"{device}.rows", *quick, "--json"]
    if call == "correctness":
        suite = ["tests/kernels/test_choose.py", "--junitxml", str(out / "tests.xml")]
        if not dry:
            suite = ["tests/kernels", "tests/degradations/test_fused.py", "-m", "not slow", *suite[1:], *_in_parallel()]
        return [
            Step("facts", [python, "-c", _FACTS], 30),
            Step("warm", [python, "-m", f"{device}.warm", *quick], 60),
            *([] if dry else [Step("accumulation", [python, "-m", "benchmarks.accumulation"], 40)]),
            Step("tests", [*tests, *suite], 150),
            Step("compiled", [*tests, "tests/kernels/test_ops.py", "-k", "compiled_equals_eager"], 60),
            Step("rows", [*rows, str(out / "rows.json")], 90),
            *([] if dry else [Step("profile", [*rows, str(out / "profiled.json"), "--profile", str(out)], 40)]),
        ]
    if call == "tune":
        others = [python, "-m", "benchmarks.training", "--seconds", "6", "--batch", "8", "--json"]
        small = ["benchmarks.code_stats", "benchmarks.contrastive"]
        return [
            Step("warm", [python, "-m", f"{device}.warm", *quick], 60),
            Step("tune", [python, "-m", f"{device}.tune_lookup", *quick, "--json", str(out / "tiles.json")], 90),
            Step("rows", [*rows, str(out / "rows.json")], 90),
            *(
                Step(name, [python, "-m", name, "--quick", "--json", str(out / f"{name}.json")], 40)
                for name in small
                if not dry
            ),
            *([] if dry else [Step("training", [*others, str(out / "training.json")], 90)]),
        ]  # fmt: skip
    found: list[Step] = []
    for name, share in STAGES.items():
        command = [*_training(name, out, pack, dry=dry), "--minutes", f"{share * minutes:.2f}"]
        # beside the training itself: the start, and writing its last checkpoint
        found.append(Step(name, command, 60 * share * minutes + 60))
    return found


def _training(name: str, out: Path, pack: Path, *, dry: bool) -> list[str]:
    command = [sys.executable, "-m", "codeprior.recipes.daefr.train", name, "--faces", str(pack / "faces")]
    command += ["--out", str(out / name), "--log-every", "20", "--preview-every", "1000"]
    if dry:
        # what the command and its recipes take is asked, nothing is trained
        return [*command, "--help"]
    return [*command, "--precision", "bfloat16", "--channels-last", "--batch", "32"]


def _in_parallel() -> list[str]:
    import importlib.util

    return ["-n", "8"] if importlib.util.find_spec("xdist") else []


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
    paths = [str(path) for path in sorted((pack / "wheels").glob("*.whl"))]
    found["PYTHONPATH"] = os.pathsep.join([str(Path.cwd()), *paths, *filter(None, [found.get("PYTHONPATH")])])
    return found


def run(steps: list[Step], out: Path, variables: dict[str, str]) -> dict[str, Any]:
    """Runs the steps one after the other; gives and writes what became of each. Raises nothing."""
    summary: dict[str, Any] = {"began": time.strftime("%Y-%m-%dT%H:%M:%S"), "steps": {}}
    for step in steps:
        start = time.monotonic()
        try:
            status = _run(step, out / f"{step.name}.log", variables)
        except Exception as error:
            status = f"{type(error).__name__}: {error}"
        summary["steps"][step.name] = {
            "status": status, "seconds": round(time.monotonic() - start, 1), "limit": step.seconds,
            "command": step.command, "last": _last_lines(out / f"{step.name}.log"),
        }  # fmt: skip
        _write(out / _SUMMARY, summary)
        print(f"{step.name:20s} {status!s:12s} {time.monotonic() - start:7.1f} s", flush=True)
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
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    steps = steps_of(given.call, given.out, given.pack, dry=given.dry, minutes=given.minutes)
    if given.dry:
        # an interpreter beside other work is no measure of what a GPU takes
        steps = [step._replace(seconds=_DRY_SECONDS) for step in steps]
    run(steps, given.out, environment(given.pack, dry=given.dry))
    try:
        print(archive(given.out))
    except OSError as error:
        print(f"no archive: {error}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

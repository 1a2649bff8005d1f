"""The compiled libraries inside a wheel, one for each of a few kinds of processor, and which of them fits this one.

The name of a library's file holds a hash of its source and flags, so one that was built from another version of the
source is never found. `setup.py` runs this file alone to build the libraries, so it imports nothing from the package.
"""

import functools
import hashlib
import platform
import subprocess
from pathlib import Path

# no -ffast-math: linking with it changes the rounding of the whole process
FLAGS = ("-std=c++17", "-O3", "-shared", "-fPIC", "-fno-trapping-math", "-fno-math-errno")
# best first: flags of the compiler, and what a processor must have, in the words of /proc/cpuinfo
_AVX2 = {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"}
KINDS = {
    "x86_64": {
        "avx512": (("-march=x86-64-v4",), _AVX2 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}),
        "avx2": (("-march=x86-64-v3",), _AVX2),
    },
    "aarch64": {"neon": ((), set[str]())},
}


def find(source: Path, flags: tuple[str, ...]) -> Path | None:
    """Gives the best library of a source in the installed wheel that this processor can run; None where there is none.

    Args:
        source: A C++ file; its libraries lie beside it.
        flags: For the compiler, besides `FLAGS`.
    """
    for kind, (_, needs) in KINDS.get(platform.machine(), {}).items():
        path = source.parent / name(source, flags, kind)
        if path.is_file() and needs <= features():
            return path
    return None


def build(source: Path, flags: tuple[str, ...], folder: Path, *, machine: str, compiler: list[str]) -> list[Path]:
    """Compiles a source for every kind of a machine's processors.

    Args:
        source: A C++ file.
        flags: For the compiler, besides `FLAGS`.
        folder: Where the libraries are written.
        machine: A key of `KINDS`.
        compiler: The command that compiles for such a machine.

    Raises:
        RuntimeError: The compiler fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    built = []
    for kind, (march, _) in KINDS[machine].items():
        target = folder / name(source, flags, kind)
        command = [*compiler, *FLAGS, *march, *flags, "-o", str(target), str(source)]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise RuntimeError(f"{compiler[0]} could not compile {source.name} for {kind}: {result.stderr[:500]}")
        built.append(target)
    return built


def name(source: Path, flags: tuple[str, ...], kind: str) -> str:
    """Gives the file name of a library."""
    return f"{source.stem}-{kind}-{_hash(source, flags)}.so"


@functools.cache
def _hash(source: Path, flags: tuple[str, ...]) -> str:
    # the headers that it includes lie beside it
    parts = [source, *sorted(source.parent.glob("*.hpp"))]
    text = "\n".join([*FLAGS, *flags]).encode() + b"".join(part.read_bytes() for part in parts)
    return hashlib.sha256(text).hexdigest()[:16]


@functools.cache
def features() -> frozenset[str]:
    """Gives what the processor can do, in the words of /proc/cpuinfo; nothing where there is no such file."""
    if not Path("/proc/cpuinfo").exists():
        return frozenset()
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    found = next((line for line in lines if line.startswith(("flags", "Features"))), ":")
    return frozenset(found.split(":", 1)[1].split())

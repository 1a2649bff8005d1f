"""Prints what results depend on: versions, the processor and its instructions, and the Intel IPP inside OpenCV.

With a file of constraints, exits with 1 where what is installed is not what the file says.
"""

import contextlib
import platform
import sys
from importlib import metadata
from pathlib import Path

import cv2
import torch


def others(constraints: Path) -> list[str]:
    """Gives the installed packages whose version is not the one of the constraints."""
    found = []
    for line in constraints.read_text().splitlines():
        if line and not line.startswith("#"):
            name, _, version = line.partition("==")
            with contextlib.suppress(metadata.PackageNotFoundError):
                # what follows a plus says how a wheel was built
                here = metadata.version(name).partition("+")[0]
                found += [] if here == version else [f"{name} {here}, not {version}"]
    return found


if __name__ == "__main__":
    print(f"python {sys.version.split()[0]} on {platform.platform()}")
    for name in ("torch", "triton", "numpy", "numba", "opencv-python-headless", "pillow", "safetensors", "timm"):
        try:
            print(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            print(f"{name} is not installed")
    facts = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    for field in ("model name", "flags", "Features"):
        print(*[line for line in facts if line.startswith(field)][:1], sep="\n")
    if wrong := others(Path(sys.argv[1])) if len(sys.argv) > 1 else []:
        sys.exit(f"not what {sys.argv[1]} says: {'; '.join(wrong)}")
    print(f"torch runs {torch.backends.cpu.get_cpu_capability()}; OpenCV: {cv2.ipp.getIppVersion()}")

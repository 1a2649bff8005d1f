"""Prints what results depend on: versions, the processor and its instructions, and the Intel IPP inside OpenCV."""

import platform
import sys
from importlib import metadata
from pathlib import Path

import cv2
import torch

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
    print(f"torch runs {torch.backends.cpu.get_cpu_capability()}; OpenCV: {cv2.ipp.getIppVersion()}")

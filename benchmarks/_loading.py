"""The same chains inside a DataLoader with two workers: CPU time of all processes, and wall clock."""

import os
import time

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks._degradation_peers import cv2_chain
from codeprior.degradations import Params, preset


def loading_rows(images: torch.Tensor, count: int) -> list[dict]:
    """Both arms begin with 8-bit pixels in memory; ours sends 8-bit batches, the training scripts' chain floats."""
    drawn = preset("daefr").sample((count, *images.shape[-2:]), torch.Generator().manual_seed(1))
    found = {}
    for impl in ("cv2", "codeprior"):
        loader = DataLoader(Degraded(images, drawn, impl), batch_size=8, num_workers=2)
        cpu, wall = _cpu_seconds(), time.perf_counter()
        total = sum(len(batch) for batch in loader)
        del loader
        found[impl] = 1e3 * (_cpu_seconds() - cpu) / total, 1e3 * (time.perf_counter() - wall) / total
    rows = []
    for impl, (cpu, wall) in found.items():
        ratio = round(found["cv2"][0] / cpu, 3)
        rows.append({"preset": "daefr-dataloader", "impl": impl, "images": count, "ms": round(cpu, 3)})
        rows[-1] |= {"ms_wall": round(wall, 3), "ratio": ratio, "identical": None}
        print(f"preset=daefr-dataloader  impl={impl}  ms={cpu:.2f}  wall={wall:.2f}  ratio={ratio}", flush=True)
    return rows


class Degraded(Dataset):
    """Degraded images, normalised floats from the OpenCV chain and 8-bit planes from this library."""

    def __init__(self, images: torch.Tensor, drawn: Params, impl: str):
        self.images, self.drawn, self.impl = images, drawn, impl
        self.pixels = [np.ascontiguousarray(image.permute(1, 2, 0).numpy()[..., ::-1]) for image in images]
        self.op = preset("daefr")

    def __len__(self) -> int:
        return len(self.drawn)

    def __getitem__(self, number: int):
        if self.impl == "codeprior":
            return self.op.apply(self.images[number % 3], self.drawn[number])
        noise = lambda params, height, width: np.asarray(np.random.randn(height, width, 3), np.float32)
        pixels = self.pixels[number % 3].astype(np.float32) / 255
        return (cv2_chain(pixels, self.drawn[number], noise).float() / 255 - 0.5) / 0.5


def _cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system

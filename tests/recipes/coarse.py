"""Small pictures that stand for clean faces where only their handling is tested."""

from pathlib import Path

import numpy as np
from PIL import Image


def coarse_faces(folder: Path, names: str, *, cells: int, side: int) -> Path:
    """Writes one smooth random picture a letter of `names`, `side` pixels square, and gives the folder."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for name in names:
        coarse = Image.fromarray(generator.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{name}.png")
    return folder

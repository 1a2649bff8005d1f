"""Every size from 1×1 to 64×64 at every quality, JPEG in torch against libjpeg, in shards.

    python -m tests.degradations.every_jpeg --shard 1/4

A line a height says how many (height, width, quality) were compared, and ends the run at the first mismatch. The slow
tests do the same, a test a height. On one core a shard of 4 takes a few minutes.
"""

import argparse
from typing import NamedTuple

import numpy as np
import torch

from codeprior.degradations.jpeg import jpeg_levels
from codeprior.kernels.jpeg import jpeg, quality_tables

from .reference import photograph

QUALITIES = np.arange(1, 101)
LONGEST = 64
_PART = 25  # images a batch, so that what is between the steps stays in the cache


class Found(NamedTuple):
    samples: int
    mismatches: int


def compared(images: list[np.ndarray], quality: np.ndarray, *, impl: str = "reference") -> Found:
    """Mismatches of one ragged batch, `H W 3` of 8-bit levels each, with libjpeg image by image."""
    sizes = np.array([image.shape[:2] for image in images])
    height, width = sizes.max(0)
    # what lies outside an image must not be read
    pixels = np.full((len(images), 3, height, width), np.nan, np.float32)
    for place, image in zip(pixels, images, strict=True):
        place[:, : image.shape[0], : image.shape[1]] = image.transpose(2, 0, 1) / np.float32(255)
    tables = torch.from_numpy(quality_tables(quality))
    unit = jpeg(torch.from_numpy(pixels), torch.from_numpy(sizes.astype(np.int32)), tables, impl=impl)
    ours = (unit * 255).numpy()
    samples = mismatches = 0
    for result, image, q in zip(ours, images, quality, strict=True):
        truth = jpeg_levels(image, int(q)).transpose(2, 0, 1)
        mismatches += int((result[:, : image.shape[0], : image.shape[1]] != truth).sum())
        samples += truth.size
    return Found(samples, mismatches)


def content(draw: np.random.Generator, kind: int, height: int, width: int) -> np.ndarray:
    """A piece of a photograph, noise, black-and-white noise, or one colour: `H W 3`, 8-bit levels."""
    if kind == 0:
        top, left = draw.integers(0, 256 - height), draw.integers(0, 256 - width)
        return np.ascontiguousarray(photograph(256)[:, top : top + height, left : left + width].permute(1, 2, 0))
    if kind == 3:
        return np.full((height, width, 3), draw.integers(0, 256, 3), np.uint8)
    levels = draw.integers(0, 256, (height, width, 3)).astype(np.uint8)
    return levels if kind == 1 else 255 * (levels & 1)


def every_width_and_quality(height: int) -> Found:
    """All widths and qualities at one height; the kinds of content take turns."""
    draw = np.random.default_rng(height)
    found = Found(0, 0)
    for width in range(1, LONGEST + 1):
        images = [content(draw, (height + width + int(q)) % 4, height, width) for q in QUALITIES]
        for first in range(0, len(images), _PART):
            part = slice(first, first + _PART)
            found = Found(*np.add(found, compared(images[part], QUALITIES[part])))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shard", default="1/1", metavar="K/N", help="heights K, K + N, … of all")
    first, step = (int(part) for part in parser.parse_args().shard.split("/"))
    torch.set_num_threads(1)
    total = combinations = 0
    for height in range(first, LONGEST + 1, step):
        found = every_width_and_quality(height)
        combinations += LONGEST * len(QUALITIES)
        total += found.samples
        print(f"height {height}: {combinations} sizes and qualities, {total} samples", end=", ")
        print(f"{found.mismatches} mismatches", flush=True)
        if found.mismatches:
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

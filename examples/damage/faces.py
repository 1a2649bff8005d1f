"""Faces that were damaged on purpose, and the truth about them from the records of `codeprior.degradations`.

A face is read, brought to a size by reducing or enlarging, damaged there by a chain whose draws are recorded, and
rounded to 8 bits. The truth about blur, reduction, noise and quality is what was drawn; the truth about the limit is
measured against the face before damage, and lowered to what enlarging had left.
"""

import csv
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from codeprior.degradations import (
    Chain,
    GaussianBlur,
    GaussianNoise,
    Jpeg,
    Op,
    Params,
    Resize,
    ResizeBack,
    Round,
    Unsharp,
    preset,
)
from codeprior.estimators import measured_limit
from codeprior.images import from_levels
from codeprior.photos import read
from codeprior.shapes import Image

KINDS: Mapping[str, float] = {
    "clean": 0.14, "daefr": 0.17, "lcqs-mild": 0.06, "lcqs-moderate": 0.05, "lcqs-severe": 0.06, "jpeg": 0.1,
    "blur": 0.1, "noise": 0.08, "reduction": 0.06, "phone": 0.1, "mixed": 0.08,
}  # fmt: skip
"""What is done to faces, and how often."""

SIZE = 512
"""Side at which the published presets damage a face, pixels."""

# the frequency, in cycles per pixel before enlarging, at which each way of enlarging leaves half the amplitude
_ENLARGING = {cv2.INTER_CUBIC: 0.5, cv2.INTER_LINEAR: 0.443, cv2.INTER_LANCZOS4: 0.5}
_PARTED = 256  # of faces larger than this, pixels, mostly parts are taken: they cost less
_SHARP = 2.2  # reduced so much from its file, a face is sharp whatever the file was


class Portraits(NamedTuple):
    """The faces of a split.

    Attributes:
        files: Where they lie.
        enlargement: By how much each was enlarged when it was cut out; below 1 it was reduced.
        weights: How often each is drawn: the Congress, most of the faces, counts half.
    """

    files: list[Path]
    enlargement: list[float]
    weights: list[float]


class Made(NamedTuple):
    """A damaged face.

    Attributes:
        face: `1 3 H W`, unit, on 8-bit levels.
        truth: Blur, reduction, noise, quality and limit; the limit without regard to how sharp the file was.
        number: Which of the portraits it is.
        kind: What was done, an index into `KINDS`.
        scale: Pixels of this face for one pixel of the file.
        trusted: Whether it was reduced so much from the file that the file's own sharpness does not matter.
    """

    face: Image
    truth: Tensor
    number: int
    kind: int
    scale: float
    trusted: bool


def read_portraits(folder: Path, split: str) -> Portraits:
    """Gives the faces of a split from `index.csv`.

    Args:
        folder: Holds `index.csv` with the columns id, split, source, file and enlargement.
        split: `train`, `val` or `test`.

    Raises:
        FileNotFoundError: There is no index.
        ValueError: It has no face of that split.
    """
    with (folder / "index.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    if not rows:
        raise ValueError(f"damage: {folder / 'index.csv'} names no face of the split {split!r}.")
    congress = ["congress" in row["source"] or "CivilServiceUSA" in row["source"] for row in rows]
    return Portraits(
        [folder / row["file"] for row in rows],
        [float(row["enlargement"]) for row in rows],
        [0.5 if member else 1.0 for member in congress],
    )


def make_face(portraits: Portraits, key: int, *, kind: str | None = None) -> Made:
    """Draws a face and damages it; everything follows from the key.

    Args:
        portraits: Where faces come from.
        key: Seed, 64 bits.
        kind: What is done; None draws it from `KINDS`.

    Raises:
        ValueError: There is no such kind.
    """
    if kind is not None and kind not in KINDS:
        raise ValueError(f"make_face: expected one of {', '.join(KINDS)}; got {kind!r}.")
    draw = np.random.default_rng(key)
    weights = np.array(portraits.weights)
    number = int(draw.choice(len(weights), p=weights / weights.sum()))
    chances = np.array(list(KINDS.values()))
    drawn = int(draw.choice(len(KINDS), p=chances / chances.sum()))
    which = drawn if kind is None else list(KINDS).index(kind)
    pixels = read(portraits.files[number]).pixels
    own, enlargement = len(pixels), portraits.enlargement[number]
    pixels, small, capped = _sized(pixels, draw, published=list(KINDS)[which].startswith(("daefr", "lcqs")))
    pixels = _recoloured(pixels, draw)
    side = len(pixels)
    clean = from_levels(pixels)
    chain = _chain(list(KINDS)[which], side, draw)
    traced = chain.trace(clean, generator=torch.Generator().manual_seed(int(draw.integers(2**62))))
    assert isinstance(traced.image, Tensor)
    blur, reduction, noise, quality = recorded_damage(traced.params)
    reduction = max(reduction, side / small, enlargement * side / own)
    turn, scale = _turn(side, draw)
    clean, damaged = (_turned(image, turn, scale) for image in (clean, traced.image))
    damaged = ((damaged * 255).round() / 255).clamp(0, 1)
    window = _window(clean.shape[-1], draw)
    limit = min(0.5, measured_limit(clean[:, *window], damaged[:, *window]), capped / scale)
    truth = torch.tensor([blur * scale, max(1.0, reduction * scale), noise, quality, limit])
    trusted = own / enlargement / small >= _SHARP
    return Made(damaged[None, :, *window].contiguous(), truth, number, which, scale * side / own, trusted)


def recorded_damage(params: Params) -> tuple[float, float, float, float]:
    """Gives blur, reduction, noise and quality of a record of one face.

    Args:
        params: The record of a chain with at most one blur, reduction, noise and compression.

    Returns:
        The blur's standard deviation, pixels, of its kernel as it was cut off, over both axes; the factor of the
        reduction; the noise's standard deviation, 8-bit levels; and the quality, 100 without compression.
    """
    values = params.describe()
    height = float(params.sizes[0, 0])
    blur, reduction, noise, quality = 0.0, 1.0, 0.0, 100.0
    for name, value in values.items():
        if name.endswith("blur.sigma"):
            size = values[f"{name.removesuffix('sigma')}size"]
            blur = math.sqrt(sum(_cut_off(sigma, int(size)) ** 2 for sigma in value) / 2)
        elif name == "resize.size":
            reduction = max(1.0, height / value[0])
        elif name.endswith("noise.sigma"):
            noise = float(value)
        elif name.endswith("jpeg.quality"):
            quality = float(value)
    return blur, reduction, noise, quality


def _cut_off(sigma: float, size: int) -> float:
    place = np.arange(size) - size // 2
    weights = np.exp(-(place**2) / (2 * sigma**2))
    return math.sqrt(float((weights * place**2).sum() / weights.sum()))


def _sized(pixels: np.ndarray, draw: np.random.Generator, *, published: bool) -> tuple[np.ndarray, int, float]:
    """Gives the face at a drawn size, its side before enlarging, and the limit that enlarging left."""
    own, large = len(pixels), draw.random() < 0.4
    most = min(own, 200 if large else 128)
    small = own if draw.random() < (0.5 if large else 0.12) else round(_octaves(draw, 48, most))
    if small < own:
        way = cv2.INTER_AREA if draw.random() < 0.7 else cv2.INTER_LINEAR_EXACT
        if way != cv2.INTER_AREA:  # a softer start, as a camera's own scaler has
            pixels = cv2.GaussianBlur(pixels, (0, 0), 0.35 * own / small)
        pixels = cv2.resize(pixels, (small, small), interpolation=way)
    grown, larger = int(small * _octaves(draw, 1, 4)), draw.random() < (0.7 if large else 0.4)
    if published and draw.random() < 0.5:
        side = SIZE
    else:
        side = min(SIZE if large else 320, grown) if larger else small
    if side <= small:
        return pixels, small, 0.5
    way = (cv2.INTER_CUBIC, cv2.INTER_LINEAR, cv2.INTER_LANCZOS4)[int(draw.choice(3, p=[0.6, 0.25, 0.15]))]
    pixels = cv2.resize(pixels, (side, side), interpolation=way)
    return pixels, small, min(0.5, _ENLARGING[way] * small / side)


def _recoloured(pixels: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Gives some faces in grey or one tint, and some darker or lighter."""
    how, gamma = draw.random(), math.exp(draw.uniform(-0.4, 0.4))
    tint, bend = draw.uniform(0.75, 1, 3), draw.random() < 0.3
    if how < 0.1:
        pixels = cv2.cvtColor(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if how < 0.03:
        pixels = np.round(pixels * tint).astype(np.uint8)
    if bend:
        pixels = cv2.LUT(pixels, np.round(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8))
    return pixels


def _turn(side: int, draw: np.random.Generator) -> tuple[np.ndarray | None, float]:
    """Gives, for some faces, a rotation and a scale as aligning a face has them."""
    angle, scale, turned = draw.uniform(-20, 20), math.exp(draw.uniform(-0.2, 0.2)), draw.random() < 0.15
    if not turned:
        return None, 1.0
    matrix = cv2.getRotationMatrix2D(((side - 1) / 2, (side - 1) / 2), angle, scale)
    matrix[:, 2] += (scale - 1) * (side - 1) / 2
    return matrix, scale


def _turned(image: Tensor, matrix: np.ndarray | None, scale: float) -> Tensor:
    if matrix is None:
        return image
    side = max(48, round(image.shape[-1] * scale))
    pixels = rearrange(image, "c h w -> h w c").numpy()
    turned = cv2.warpAffine(pixels, matrix, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return rearrange(torch.from_numpy(turned), "h w c -> c h w")


def _window(side: int, draw: np.random.Generator) -> tuple[slice, slice]:
    """Gives a part of the face: parts of small faces stand for parts of large ones."""
    shares, whole = draw.uniform(0.35, 1, 2), draw.random() < (0.6 if side <= _PARTED else 0.4)
    most = side if whole else min(side, _PARTED)
    height, width = (side if whole else min(side, max(48, int(most * share))) for share in shares)
    top, left = int(draw.integers(side - height + 1)), int(draw.integers(side - width + 1))
    return slice(top, top + height), slice(left, left + width)


def _chain(kind: str, side: int, draw: np.random.Generator) -> Op:
    share = side / SIZE
    blur = GaussianBlur(sigma=_around(draw, 0.4, max(1.5, 15 * share)), isotropic=0.7)
    factor = _around(draw, 1.2, max(4.0, 30 * share))
    modes = ("bilinear", "bicubic", "area")
    small = Resize(factor=factor, interpolation=modes)
    back = ResizeBack(interpolation=("bilinear", "bicubic"))
    noise = GaussianNoise(sigma=_around(draw, 1, 30), grey=0.3)
    jpeg = Jpeg(quality=(20, 98))
    if kind == "daefr" and side != SIZE:
        sigma, factors = (0.1, max(1.0, 15 * share)), (0.8, max(2.0, 30 * share))
        ops = (GaussianBlur(size=(39, 41), sigma=sigma), Resize(factor=factors), GaussianNoise(sigma=(0, 20)))
        return Chain(ops=(*ops, Jpeg(quality=(30, 100)), ResizeBack(), Round()))
    if kind == "daefr" or kind.startswith("lcqs"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a preset is partial is in its documentation
            return preset(kind)
    chains: dict[str, tuple[Op, ...]] = {
        "clean": (),
        "jpeg": (jpeg,),
        "blur": (blur,),
        "noise": (noise,),
        "reduction": (small, back),
        "mixed": tuple(op for op in (blur, small, noise, jpeg, back) if op is back or draw.random() < 0.6),
        "phone": (
            GaussianBlur(size=(13,), sigma=(0.3, 1.5), isotropic=0.7),
            GaussianNoise(sigma=(0.5, 8), grey=0.3),
            *((Unsharp(weight=float(draw.uniform(0.2, 1)), threshold=2.0, size=5),) if draw.random() < 0.5 else ()),
            Jpeg(quality=(50, 97)),
        ),
    }
    return Chain(ops=(*chains[kind], Round()))


def _around(draw: np.random.Generator, low: float, high: float) -> tuple[float, float]:
    """Gives a range of no width."""
    value = _octaves(draw, low, high)
    return value, value


def _octaves(draw: np.random.Generator, low: float, high: float) -> float:
    """Gives a value that lies in every octave as often."""
    return math.exp(draw.uniform(math.log(low), math.log(high)))

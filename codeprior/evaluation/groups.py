"""Faces in groups, by their index or by the tone of their skin: a mean can hide for whom a method works worse."""

import csv
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from codeprior.evaluation.faces import Face, read_face
from codeprior.photos.faces.geometry import template
from codeprior.shapes import Image

TONE = "tone"
"""The group that is measured instead of read."""

UNKNOWN = "not known"
"""Where the index has an empty cell."""

# lowest angle in degrees, from the lightest on: Chardon et al. 1991, as Merler et al. 2019 use them for photographs
_TONES = ((55.0, "very light"), (41.0, "light"), (28.0, "intermediate"), (10.0, "tan"), (-30.0, "brown"))
_DARK = "dark"
_BANDS = 3


def skin_angles(faces: Image) -> Tensor:
    """Measures the tone of skin: the individual typology angle `atan((L* - 50) / b*)` of the cheeks.

    Args:
        faces: Aligned as `photos.faces.template` has it, `b 3 S S`, unit, sRGB.

    Returns:
        Degrees, `(b,)`; lighter skin has larger ones. Light and camera change it by a class or more, so it sorts
        pictures and says nothing certain about a person.

    Source: Chardon, Cretois, Hourseau 1991; the median over both cheeks is ours.
    """
    side = faces.shape[-1]
    eyes, mouth = template(side)[:2], template(side)[3:]
    half = max(1, round(side / 25))
    patches = []
    for eye, corner in zip(eyes, mouth, strict=True):
        # below the eye, above the corner of the mouth
        x, y = np.rint(0.5 * (eye + corner)).astype(int)
        patches.append(faces[:, :, y - half : y + half + 1, x - half : x + half + 1].flatten(2))
    light, _, yellow = _lab(torch.cat(patches, 2).double().median(2).values).unbind(1)
    return torch.rad2deg(torch.atan2(light - 50, yellow.clamp_min(1e-6)))


def tone_groups(folder: str | Path, faces: Sequence[Face]) -> dict[str, str]:
    """Gives each face the class of its skin's tone, from `very light` to `dark`.

    Args:
        folder: Where the clean faces are.
        faces: Which. Those that cannot be read are left out.
    """
    groups = {}
    for face in faces:
        try:
            angle = float(skin_angles(read_face(folder, face)))
        except ValueError:
            continue  # the run reports it
        groups[face.name] = next((name for least, name in _TONES if angle > least), _DARK)
    order = [name for _, name in _TONES] + [_DARK]
    return dict(sorted(groups.items(), key=lambda item: order.index(item[1])))


def index_groups(index: str | Path, faces: Sequence[Face], column: str) -> dict[str, str]:
    """Gives each face what a column of its index says.

    Args:
        index: A CSV with the column `id`.
        faces: Which.
        column: Such as `age` or `source`. Where it holds more than six different numbers, they are cut into three bands
            of about as many faces.

    Raises:
        ValueError: The index has no such column, or lacks a face.
    """
    with Path(index).open(newline="", encoding="utf-8") as lines:
        rows = {row["id"]: row for row in csv.DictReader(lines)}
    known = list(next(iter(rows.values()), {}))
    if column not in known:
        raise ValueError(f"--by: {index} has no column {column!r}; it has {', '.join(known)}, and {TONE} is measured.")
    if lost := [face.name for face in faces if face.name not in rows]:
        raise ValueError(f"--by: {index} has no face {lost[0]}.")
    cells = {face.name: (rows[face.name][column] or "").strip() or UNKNOWN for face in faces}
    return _banded(cells) or cells


def _banded(cells: Mapping[str, str]) -> dict[str, str] | None:
    """Gives bands for numbers; None where the cells are words, or hold few different numbers."""
    try:
        numbers = {name: float(cell) for name, cell in cells.items() if cell != UNKNOWN}
    except ValueError:
        return None
    if len(set(numbers.values())) <= 2 * _BANDS:
        return None
    cuts = np.quantile(list(numbers.values()), np.linspace(0, 1, _BANDS + 1))
    label = [f"{low:g} to {high:g}" for low, high in itertools.pairwise(cuts)]
    groups = dict.fromkeys(cells, UNKNOWN)
    for name, number in sorted(numbers.items(), key=lambda item: item[1]):
        groups[name] = label[int(np.searchsorted(cuts[1:-1], number, side="right"))]
    return dict(sorted(groups.items(), key=lambda item: ([*label, UNKNOWN]).index(item[1])))


def _lab(srgb: Tensor) -> Tensor:
    """Gives CIE L*a*b* (D65) of sRGB values, `b 3`, unit."""
    linear = torch.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    # IEC 61966-2-1; the white point is that of the matrix, so that grey has no colour
    matrix = linear.new_tensor([
        [0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505],
    ])  # fmt: skip
    x, y, z = (linear @ matrix.T / matrix.sum(1)).unbind(1)
    cube = (6 / 29) ** 3
    fx, fy, fz = (
        torch.where(v > cube, v.clamp_min(cube) ** (1 / 3), v / (3 * (6 / 29) ** 2) + 4 / 29) for v in (x, y, z)
    )
    return torch.stack((116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)), 1)

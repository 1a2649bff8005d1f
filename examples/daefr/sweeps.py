"""Each degradation parameter alone, at levels of growing severity, and what restorers make of it."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from codeprior import metrics
from codeprior.degradations import Chain, GaussianBlur, GaussianNoise, Jpeg, Op, Resize, ResizeBack, Round
from codeprior.metrics.measures import Measure, score
from codeprior.shapes import Image

from .data import resize
from .methods import Done, Restore
from .test_set import Face, read_face


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One parameter and its levels, mildest first."""

    name: str
    unit: str
    levels: tuple[float, ...]
    degrade: Callable[[float], Op]


SWEEPS = (
    Sweep(
        name="blur", unit="σ, px of 512", levels=(0.5, 2, 4, 6, 10, 15),
        degrade=lambda level: Chain(ops=(GaussianBlur(sigma=(level, level), isotropic=1.0), Round())),
    ),
    Sweep(
        name="reduction", unit="factor", levels=(1.5, 2, 4, 8, 16, 30),
        degrade=lambda level: Chain(ops=(Resize(factor=(level, level)), ResizeBack(), Round())),
    ),
    Sweep(
        name="noise", unit="σ, 8-bit levels", levels=(1, 5, 10, 20, 30, 50),
        degrade=lambda level: Chain(ops=(GaussianNoise(sigma=(level, level)), Round())),
    ),
    Sweep(
        name="JPEG", unit="quality", levels=(95, 75, 50, 30, 15, 5),
        degrade=lambda level: Chain(ops=(Jpeg(quality=(level, level)),)),
    ),
)  # fmt: skip
"""Beyond the published ranges (blur 15, reduction 30, noise 20, JPEG 30) where that shows where models break."""


def sweep_faces(
    folder: Path, faces: Sequence[Face], restorers: Mapping[str, Restore], *, sweeps: Sequence[Sweep],
    measures: Sequence[Measure], size: int, done: Done, degradation_size: int = 512, seed: int = 0, batch: int = 8,
) -> tuple[dict[tuple[str, float], metrics.Results], dict[str, str]]:  # fmt: skip
    """Measures the input and every restorer at every level of every sweep.

    Args:
        folder: Of the clean faces.
        faces: Which of them.
        restorers: Name to unit images in, unit images out.
        sweeps: Parameters and levels.
        measures: The columns.
        size: Side of the images, pixels.
        done: What is measured already, by the names of `stamps`, and where the rest is kept.
        degradation_size: Side at which faces are degraded, pixels.
        seed: With a face's name, what its noise follows from: the same field at every level.
        batch: Faces at once.

    Returns:
        Results by sweep and level; and faces that cannot be read with the reason.
    """
    groups = {face.name: face.identity for face in faces}
    results = {
        (sweep.name, level): metrics.Results(measures=measures, groups=groups)
        for sweep in sweeps
        for level in sweep.levels
    }
    gone: dict[str, str] = {}
    steps = [(sweep, level) for sweep in sweeps for level in sweep.levels]
    with tqdm(total=len(faces) * len(steps), unit="face", desc="severity", disable=None) as progress:
        for start in range(0, len(faces), batch):
            pairs = []
            for face in faces[start : start + batch]:
                try:
                    pairs.append((face, read_face(folder, face)))
                except ValueError as error:
                    gone[face.name] = str(error)
                    progress.update(len(steps))
            for sweep, level in steps if pairs else ():
                _measure(
                    results[sweep.name, level], pairs, restorers, sweep=sweep, level=level, size=size, done=done,
                    degradation_size=degradation_size, seed=seed,
                )  # fmt: skip
                progress.update(len(pairs))
    for found in results.values():  # what was known came first
        found.values = {name: found.values[name] for name in ("input", *restorers) if name in found.values}
    return results, gone


def stamps(faces: Sequence[Face], sweeps: Sequence[Sweep]) -> dict[str, str]:
    """Gives every picture of the sweeps, and the checksum of the face that it is made from.

    Args:
        faces: Which.
        sweeps: Parameters and levels.
    """
    return {_name(sweep, level, face): face.sha256 for sweep in sweeps for level in sweep.levels for face in faces}


def _name(sweep: Sweep, level: float, face: Face) -> str:
    return f"{sweep.name}={level:g}/{face.name}"


def _measure(
    results: metrics.Results, pairs: Sequence[tuple[Face, Image]], restorers: Mapping[str, Restore], *, sweep: Sweep,
    level: float, size: int, done: Done, degradation_size: int, seed: int,
) -> None:  # fmt: skip
    methods, pictures = ["input", *restorers], {face.name: _name(sweep, level, face) for face, _ in pairs}
    known = done.known(pictures.values(), methods)
    for name, picture in pictures.items():
        for method, entry in known.get(picture, {}).items():
            results.add([name], {method: {column: [value] for column, value in entry.values.items()}})
    todo = [(face, pixels) for face, pixels in pairs if len(known.get(pictures[face.name], {})) < len(methods)]
    if not todo:
        return
    wanted = [name for name in methods if any(name not in known.get(pictures[face.name], {}) for face, _ in todo)]
    op, damaged = sweep.degrade(level), []
    for face, pixels in todo:
        key = int.from_bytes(hashlib.sha256(f"{seed}/{face.name}".encode()).digest()[:7], "big")
        damaged.append(
            op(resize(pixels, degradation_size), generator=torch.Generator().manual_seed(key), mode="strict")
        )
    degraded = resize(torch.cat(damaged), size)
    with torch.inference_mode():
        images = {name: degraded if name == "input" else restorers[name](degraded) for name in wanted}
    # every column sees what files would hold
    images = {name: metrics.eight_bit(image) for name, image in images.items()}
    truth = metrics.eight_bit(torch.cat([resize(pixels, size) for _, pixels in todo]))
    values = score(results.measures, images, truth)
    results.add([face.name for face, _ in todo], values)
    done.add([pictures[face.name] for face, _ in todo], values)

"""Each degradation parameter alone, at levels of growing severity: conditions of a run, one per level."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from codeprior.degradations import (
    Chain,
    GaussianBlur,
    GaussianNoise,
    Jpeg,
    Op,
    Resize,
    ResizeBack,
    Round,
    definition,
)
from codeprior.evaluation.faces import Face
from codeprior.evaluation.sets import draw_seed
from codeprior.shapes import Image


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
"""The levels go beyond the published ranges (blur 15, reduction 30, noise 20, JPEG 30), to show where models fail."""


@dataclass(frozen=True, kw_only=True)
class Level:
    """Faces at one level of one sweep.

    Args:
        sweep: The parameter.
        level: Its value, in the sweep's unit.
        faces: The clean faces.
        seed: The noise of a face follows from it and the face's name: the same field at every level.
    """

    sweep: Sweep
    level: float
    faces: Sequence[Face]
    seed: int = 0

    @property
    def name(self) -> str:
        """How results call it, such as `blur=4`."""
        return f"{self.sweep.name}={self.level:g}"

    @property
    def chain(self) -> str:
        """The degradation in full."""
        return definition(self.sweep.degrade(self.level))

    def stamps(self) -> dict[str, str]:
        """Gives what identifies each damaged face: the checksum of the clean one, and the seed."""
        return {face.name: f"{face.sha256[:16]}{self.seed}" for face in self.faces}

    def degrade(self, names: Sequence[str], large: Image) -> Image:
        """Gives faces degraded by this level alone.

        Args:
            names: Which.
            large: The clean faces in that order, `b 3 S S` with the side of degradation, unit.
        """
        op, damaged = self.sweep.degrade(self.level), []
        for name, face in zip(names, large, strict=True):
            generator = torch.Generator().manual_seed(draw_seed(self.seed, name))
            damaged.append(op(face[None], generator=generator, mode="strict"))
        found = torch.cat(damaged)
        assert isinstance(found, Tensor)
        return found


def levels(sweeps: Sequence[Sweep], faces: Sequence[Face], *, seed: int = 0) -> dict[tuple[str, float], Level]:
    """Gives the conditions of sweeps, by the sweep's name and the level.

    Args:
        sweeps: Parameters and levels.
        faces: The clean faces.
        seed: Of the noise.
    """
    return {
        (sweep.name, level): Level(sweep=sweep, level=level, faces=faces, seed=seed)
        for sweep in sweeps
        for level in sweep.levels
    }

"""What an exported file gives beside the model that it was made from."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from codeprior.export.trace import Program
from codeprior.kernels import use_impl
from codeprior.shapes import Image

MOST = 1e-4
"""Largest difference of a pixel over the range of pixels, with which a file is accepted."""
_RANGE = 2.0  # of signed pixels
_FACES = 3


class Parity(NamedTuple):
    """How far a file's answers are from the model's.

    Attributes:
        image: Largest difference of a pixel over the range of pixels.
        different: Codes that are others.
        codes: Codes that were compared; 0 where the model chooses none.
        faces: Pictures that were compared, once alone and once together.
    """

    image: float
    different: int
    codes: int
    faces: int

    @property
    def holds(self) -> bool:
        """Whether the file stands for the model: the same codes, and pixels within 1e-4 of the range."""
        return self.image <= MOST and not self.different

    def __str__(self) -> str:
        """Gives it in words."""
        codes = f", {self.codes - self.different} of {self.codes} codes equal" if self.codes else ""
        return f"largest difference of a pixel {self.image:.1e} of the range{codes} ({self.faces} faces)"


def compare(
    program: Program, run: Callable[[Image, Tensor | None], tuple[Tensor, ...]], *, size: int, seed: int = 0
) -> Parity:
    """Gives the parity of a file with the model that it was made from.

    Args:
        program: The model's.
        run: The file's: signed faces and fidelities to what the program gives.
        size: Side of the faces, pixels.
        seed: Of the pictures: smooth ones with noise on top, one for each fidelity 0, 0.5 and 1.
    """
    faces = pictures(size, seed=seed)
    fidelity = torch.linspace(0, 1, _FACES) if program.takes_fidelity else None
    # the file stands for the plain implementations; those that are fast on a CPU round otherwise
    with torch.no_grad(), use_impl("reference"):
        wanted = program(faces, fidelity)
    # a batch of another length must give what each face gives alone
    together, alone = run(faces, fidelity), run(faces[1:2], None if fidelity is None else fidelity[1:2])
    image, different, codes = 0.0, 0, 0
    for found, at in ((together, slice(None)), (alone, slice(1, 2))):
        gap = (found[0] - wanted[0][at]).abs().max()
        image = max(image, float(gap) / _RANGE if bool(gap.isfinite()) else float("inf"))
        if len(wanted) > 1:
            different += int((found[1] != wanted[1][at]).sum())
            codes += found[1].numel()
    return Parity(image, different, codes, _FACES)


def pictures(size: int, *, seed: int = 0) -> Image:
    """Gives three signed pictures with coarse shapes and fine noise, `3 3 size size`, the same on every machine.

    Args:
        size: Side, pixels.
        seed: Of the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(_FACES, 3, 6, 6, generator=generator) * 2 - 1
    shapes = F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=False)
    return (shapes + 0.1 * torch.randn(shapes.shape, generator=generator)).clamp(-1, 1)

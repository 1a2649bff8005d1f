"""A photograph on its way to the network: its faces found, chosen, cut out and assessed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from codeprior.photos.decisions import LARGEST, Decision, as_shown, check_share
from codeprior.photos.faces import Crop, Detector, Face, alignment, choose, search, usable
from codeprior.photos.faces.geometry import at_side, resample, transform
from codeprior.photos.pictures import nearly_square
from codeprior.photos.tints import Tint, find_tint

_FINEST = 2048  # largest side at which a mended face is put together, pixels; no mended face shows more


class Judge(Protocol):
    """Says what to do with a face, `3 h w` of the photograph's own pixels, unit, whose side is `side` pixels."""

    def __call__(
        self, face: Float[Tensor, "3 h w"], /, *, side: float, fidelity: float | None, always: bool
    ) -> Decision: ...


class Prepared(NamedTuple):
    """A photograph on its way to the network.

    Attributes:
        pixels: `H W 3`, RGB, 8-bit levels.
        found: Every face of the photograph; empty for an aligned one.
        chosen: Numbers of the faces that are restored.
        crops: Those faces, aligned, at the size of the network; for an aligned photograph the whole of it.
        own: The same faces at the photograph's own resolution, or the network's where that is finer.
        decisions: What is done with each of them; None for each where no decision was asked for.
        tints: The one tint of each; None for those that have colours.
    """

    pixels: UInt8[np.ndarray, "H W 3"]
    found: list[Face]
    chosen: list[int]
    crops: list[Crop]
    own: list[Crop]
    decisions: list[Decision | None]
    tints: list[Tint | None]

    @property
    def asked(self) -> list[int]:
        """Positions among the crops of the faces that the network is asked about: all but those left as they are."""
        return [at for at, decision in enumerate(self.decisions) if decision is None or decision.action != "left"]

    @property
    def fidelities(self) -> list[float | None]:
        """The fidelity that the model is given for each face that it restores."""
        decisions = [self.decisions[at] for at in self.asked]
        return [None if decision is None else decision.fidelity for decision in decisions]


@dataclass(frozen=True, kw_only=True, slots=True)
class Choices:
    """What a user decides about a restoration."""

    faces: str = "all"  # all, largest, centre, or a number from 0, left to right
    aligned: bool = False  # each picture is one aligned face already
    strength: float = 1.0  # 0 the input face, 1 the restored one
    colour: bool = False  # match the restored face's colours to the input's
    tint: bool = True  # a grey face stays grey, one of a single tint stays in it
    fidelity: float | str = "auto"  # 0 follows the model, 1 the picture; auto chooses for each face
    grain: float | str = "auto"  # share of the photograph's grain that mended faces have again; auto bounds it
    always: bool = False  # restore faces that hold more than the model gives back, and keep nothing of any
    score: float = 0.9  # least score of a face
    smallest: float = 16.0  # least distance between the eyes, pixels

    def __post_init__(self):
        if not 0 <= self.strength <= 1:
            raise ValueError(f"Choices: strength must be in [0, 1], got {self.strength}.")
        if not 0 <= self.score <= 1:
            raise ValueError(f"Choices: score must be in [0, 1], got {self.score}.")
        if not 0 <= self.smallest < float("inf"):
            raise ValueError(f"Choices: smallest must be a distance of 0 pixels or more, got {self.smallest}.")
        if self.faces not in ("all", "largest", "centre") and not self.faces.isdecimal():
            raise ValueError(f"Choices: faces must be all, largest, centre or a number, got {self.faces!r}.")
        try:
            check_share(self.fidelity)
            check_share(self.grain, name="grain")
        except ValueError as error:
            raise ValueError(f"Choices: {error}.") from error


def prepare(
    pixels: UInt8[np.ndarray, "H W 3"],
    detector: Detector | None,
    *,
    size: int,
    choices: Choices,
    faces: Sequence[Face] | None = None,
    judge: Judge | None = None,
    enlarged: bool = False,
) -> Prepared:
    """Finds, chooses, aligns and judges the faces of a photograph.

    Args:
        pixels: `H W 3`, RGB, 8-bit levels.
        detector: What finds the faces; not asked for an aligned photograph or where `faces` are given.
        size: Side of the crops, pixels: the restorer's.
        choices: Which faces, and which are too small or too doubtful.
        faces: Faces whose points are known.
        judge: Says whether a face should be restored, from the photograph's own pixels around it; a restorer's `judge`.
            None restores all.
        enlarged: Whether the result will be larger than the photograph, so that it can show more than its pixels do.

    Returns:
        The photograph with its crops.

    Raises:
        NoFaceError: There is no face to restore; the text says whether none was found or all were left out.
        ValueError: An aligned photograph is far from a square, the face of the number asked for is not there, or there
            is nothing to find faces with.
    """
    height, width = pixels.shape[:2]
    if choices.aligned:
        if not nearly_square(height, width):
            raise ValueError(f"is {width}×{height} pixels, too far from a square to be an aligned face")
        matrix = np.array([[width / size, 0, width / size / 2 - 0.5], [0, height / size, height / size / 2 - 0.5]])
        return _cut(pixels, [], [], [matrix], size, choices, judge, enlarged=True)
    if faces is None:
        if detector is None:
            raise ValueError("prepare: give a detector, the faces, or choices with aligned=True.")
        faces = search(detector, pixels, smallest=choices.smallest, score=choices.score)
    found = list(faces)
    good = usable(found, score=choices.score, smallest=choices.smallest)
    chosen = [good[i] for i in choose([found[i] for i in good], choices.faces, width=width, height=height)]
    matrices = [alignment(found[i].points, size=size) for i in chosen]
    return _cut(pixels, found, chosen, matrices, size, choices, judge, enlarged=enlarged)


def _cut(
    pixels: UInt8[np.ndarray, "H W 3"],
    found: list[Face],
    chosen: list[int],
    matrices: list[Float[np.ndarray, "2 3"]],
    size: int,
    choices: Choices,
    judge: Judge | None,
    *,
    enlarged: bool,
) -> Prepared:
    planes = rearrange(torch.from_numpy(np.array(pixels)), "h w c -> c h w")
    prepared = Prepared(pixels, found, chosen, [], [], [], [])
    for matrix in matrices:
        image = resample(planes, matrix, height=size, width=size).clamp(0, 1)
        side = size * math.sqrt(abs(np.linalg.det(matrix[:, :2])))
        fidelity = check_share(choices.fidelity)
        decision = None
        if judge is not None:
            decision = judge(_around(planes, matrix, size), side=side, fidelity=fidelity, always=choices.always)
            decision = decision if enlarged else as_shown(decision)
        own, tint = Crop(image, matrix), find_tint(image) if choices.tint else None
        if decision and decision.action == "mended" and (larger := min(_FINEST, round(side))) > size:
            finer = at_side(matrix, size, larger)
            own = Crop(resample(planes, finer, height=larger, width=larger).clamp(0, 1), finer)
        prepared.crops.append(Crop(image if tint is None else tint.without(image[None])[0], matrix))
        prepared.own.append(own)
        prepared.decisions.append(decision)
        prepared.tints.append(tint)
    return prepared


def _around(planes: UInt8[Tensor, "3 H W"], matrix: Float[np.ndarray, "2 3"], size: int) -> Float[Tensor, "3 h w"]:
    """Gives the photograph's own pixels around a face, not resampled, so that the traces of damage are there."""
    corners = transform(np.array([(-0.5, -0.5), (size - 0.5, -0.5), (-0.5, size - 0.5), (size - 0.5,) * 2]), matrix)
    limits = np.array(planes.shape[:0:-1])  # width, height
    low, high = corners.min(0), corners.max(0)
    middle, half = (low + high) / 2, np.minimum((high - low) / 2, LARGEST / 2)
    left, top = np.clip(np.ceil(middle - half), 0, limits - 1).astype(int)
    right, bottom = np.clip(np.floor(middle + half) + 1, 1, limits).astype(int)
    return planes[:, top : max(bottom, top + 1), left : max(right, left + 1)].float() / 255

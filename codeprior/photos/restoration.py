"""A photograph restored: faces found and aligned, given to a restorer, pasted back.

`prepare` and `finish` are the two halves around the network, so that faces of many photographs can share its batches
(`codeprior.photos.stream`); `restore_photo` is both with one photograph between them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from codeprior.photos.faces import Crop, Detector, Face, align, choose, match_colour, paste, search
from codeprior.photos.faces.geometry import resample
from codeprior.shapes import Image


class Restorer(Protocol):
    """Anything that restores aligned faces: `b 3 size size`, unit, in and out."""

    @property
    def size(self) -> int: ...
    def __call__(self, images: Image, /) -> Image: ...


class Restored(NamedTuple):
    """Restored faces and how sure the model was of each place.

    Attributes:
        images: `b 3 size size`, unit.
        uncertainty: `b h w`, [0, 1]: entropy of the predicted codes over its maximum; None where it is not known.
    """

    images: Image
    uncertainty: Float[Tensor, "b h w"] | None = None


class Prepared(NamedTuple):
    """A photograph on its way to the network.

    Attributes:
        pixels: `H W 3`, RGB, 8-bit levels.
        found: Every face of the photograph; empty for an aligned one.
        chosen: Numbers of the faces that are restored.
        crops: Those faces, aligned; for an aligned photograph the whole of it.
    """

    pixels: UInt8[np.ndarray, "H W 3"]
    found: list[Face]
    chosen: list[int]
    crops: list[Crop]


class Finished(NamedTuple):
    """A restored photograph.

    Attributes:
        pixels: `H W 3`, RGB, 8-bit levels; of the restorer's size for an aligned face.
        found: Every face of the photograph.
        chosen: Numbers of the faces that were restored.
        before: `n 3 size size`, unit: what the network was given.
        after: `n 3 size size`, unit: what it gave, after blending.
        uncertainty: `n h w`, [0, 1], or None.
    """

    pixels: UInt8[np.ndarray, "H W 3"]
    found: list[Face]
    chosen: list[int]
    before: Image
    after: Image
    uncertainty: Float[Tensor, "n h w"] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Choices:
    """What a user decides about a restoration."""

    faces: str = "all"  # all, largest, centre, or a number from 0, left to right
    aligned: bool = False  # each picture is one aligned face already
    strength: float = 1.0  # 0 the input face, 1 the restored one
    colour: bool = False  # match the restored face's colours to the input's
    score: float = 0.9  # least score of a face
    smallest: float = 16.0  # least distance between the eyes, pixels

    def __post_init__(self):
        if not 0 <= self.strength <= 1:
            raise ValueError(f"Choices: strength must be in [0, 1], got {self.strength}.")
        if self.faces not in ("all", "largest", "centre") and not self.faces.isdecimal():
            raise ValueError(f"Choices: faces must be all, largest, centre or a number, got {self.faces!r}.")


def prepare(
    pixels: UInt8[np.ndarray, "H W 3"],
    detector: Detector | None,
    *,
    size: int,
    choices: Choices,
    faces: Sequence[Face] | None = None,
) -> Prepared:
    """Finds, chooses and aligns the faces of a photograph.

    Args:
        pixels: `H W 3`, RGB, 8-bit levels.
        detector: What finds the faces; not asked for an aligned photograph or where `faces` are given.
        size: Side of the crops, pixels: the restorer's.
        choices: Which faces, and which are too small or too doubtful.
        faces: Faces whose points are known.

    Returns:
        The photograph with its crops.

    Raises:
        ValueError: There is no face to restore; the text says whether none was found or all were left out.
    """
    height, width = pixels.shape[:2]
    if choices.aligned:
        if not 2 / 3 <= width / height <= 3 / 2:
            raise ValueError(f"is {width}×{height} pixels, too far from a square to be an aligned face")
        to_photo = np.array([[width / size, 0, width / size / 2 - 0.5], [0, height / size, height / size / 2 - 0.5]])
        planes = rearrange(torch.from_numpy(np.array(pixels)), "h w c -> c h w")
        return Prepared(
            pixels, [], [], [Crop(resample(planes, to_photo, height=size, width=size).clamp(0, 1), to_photo)]
        )
    if faces is None:
        if detector is None:
            raise ValueError("prepare: give a detector, the faces, or choices with aligned=True.")
        faces = search(detector, pixels, smallest=choices.smallest, score=choices.score)
    found = list(faces)
    if not found:
        raise ValueError("no face was found")
    good = [i for i, face in enumerate(found) if _usable(face, choices)]
    if not good:
        best = max(face.score for face in found)
        raise ValueError(
            f"all {len(found)} faces found are below the least score {choices.score} (best {best:.2f}) "
            f"or have eyes less than {choices.smallest:g} pixels apart"
        )
    chosen = [good[i] for i in choose([found[i] for i in good], choices.faces, width=width, height=height)]
    return Prepared(pixels, found, chosen, [align(pixels, found[i].points, size=size) for i in chosen])


def finish(
    prepared: Prepared,
    restored: Restored,
    *,
    choices: Choices,
    mask: Callable[[Float[Tensor, "3 size size"]], Float[Tensor, "size size"]] | None = None,
) -> Finished:
    """Blends the restored faces with what they replace and puts them in their places.

    Args:
        prepared: What `prepare` gave.
        restored: The network's answer for its crops.
        choices: Strength, colour, and whether the photograph was aligned.
        mask: Further weights for each crop, such as a face parser's.

    Raises:
        ValueError: The restorer gave other shapes, or values that are not finite.
    """
    before = torch.stack([crop.image for crop in prepared.crops])
    after = restored.images.float().cpu()
    if after.shape != before.shape:
        raise ValueError(f"the restorer gave images of shape {tuple(after.shape)}, expected {tuple(before.shape)}")
    if not bool(after.isfinite().all()):
        raise ValueError("the restorer gave values that are not finite")
    if choices.colour:
        after = match_colour(after, before)
    after = (before + choices.strength * (after.clamp(0, 1) - before)).clamp(0, 1)
    if choices.aligned:
        pixels = rearrange((after[0] * 255).round().to(torch.uint8), "c h w -> h w c").numpy()
    else:
        crops = [Crop(image, crop.matrix) for image, crop in zip(after, prepared.crops, strict=True)]
        pixels = paste(prepared.pixels, crops, mask=mask)
    return Finished(pixels, prepared.found, prepared.chosen, before, after, restored.uncertainty)


def answer(restorer: Restorer, images: Image, *, uncertainty: bool = False) -> Restored:
    """Asks a restorer about a batch of aligned faces.

    Args:
        restorer: Has `size` and takes `b 3 size size`, unit; with a method `examine` it can also say how sure it is.
        images: `b 3 size size`, unit.
        uncertainty: Whether to ask for that.

    Raises:
        ValueError: The restorer has no `examine`.
    """
    if not uncertainty:
        return Restored(restorer(images))
    examine = getattr(restorer, "examine", None)
    if examine is None:
        raise ValueError(f"answer: {type(restorer).__name__} cannot say how sure it is; leave uncertainty out.")
    return examine(images)


def restore_photo(
    pixels: UInt8[np.ndarray, "H W 3"],
    restorer: Restorer,
    *,
    detector: Detector | None = None,
    faces: Sequence[Face] | None = None,
    choices: Choices = Choices(),
    uncertainty: bool = False,
) -> Finished:
    """Restores the faces of one photograph.

    Args:
        pixels: `H W 3`, RGB, 8-bit levels.
        restorer: Takes aligned faces `b 3 size size`, unit, and gives them restored.
        detector: What finds the faces, such as `codeprior.photos.faces.detector()`.
        faces: Faces whose points are known; the detector is then not asked.
        choices: Which faces, how strongly, whether the photograph is an aligned face already.
        uncertainty: Also ask where the model guessed.

    Raises:
        ValueError: There is no face to restore, or the restorer's answer is unusable.
    """
    prepared = prepare(pixels, detector, size=restorer.size, choices=choices, faces=faces)
    images = torch.stack([crop.image for crop in prepared.crops])
    return finish(prepared, answer(restorer, images, uncertainty=uncertainty), choices=choices)


def _usable(face: Face, choices: Choices) -> bool:
    return face.score >= choices.score and float(np.linalg.norm(face.points[1] - face.points[0])) >= choices.smallest

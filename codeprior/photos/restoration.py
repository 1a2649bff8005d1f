"""A photograph restored: faces found, aligned, given to a restorer, put together with what they still hold, pasted.

`prepare` and `finish` are the two halves around the network, so that faces of many photographs can share its batches
(`codeprior.photos.stream`); `restore_photo` is both with one photograph between them.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8, UInt16
from torch import Tensor

from codeprior.estimators import Damage
from codeprior.images import as_png
from codeprior.photos.bands import keep_trustworthy, scaled
from codeprior.photos.decisions import Decision, check_share
from codeprior.photos.faces import Crop, Detector, Face, match_colour, paste
from codeprior.photos.faces.geometry import at_side
from codeprior.photos.grain import GrainKeeper
from codeprior.photos.preparation import Choices, Judge, Prepared, prepare
from codeprior.photos.tints import Tint
from codeprior.photos.upscaling import Upscaling, enlarged, scaled_crop
from codeprior.shapes import Image, brief

__all__ = [
    "Choices", "Finished", "Judge", "Prepared", "Restored", "Restorer", "answer", "finish", "prepare", "restore_photo",
]  # fmt: skip


class Restorer(Protocol):
    """Anything that restores aligned faces: `b 3 size size`, unit, in and out.

    One that also has `judge(face, *, side, fidelity, always)` says of each face, from the photograph's own pixels,
    whether it should be restored, as a `Decision`; one that has `restore(images, *, fidelities, uncertainty)` is given
    the fidelities.
    """

    @property
    def size(self) -> int: ...
    def __call__(self, images: Image, /) -> Image: ...


class Restored(NamedTuple):
    """Restored faces and how sure the model was of each place.

    Attributes:
        images: `b 3 size size`, unit.
        uncertainty: `b h w`, [0, 1]: entropy of the predicted codes over its maximum; None where it is not known.
        damage: What was estimated, each part `(b,)`; None where nothing was.
        decisions: What was done with each face; empty where nothing was decided.
    """

    images: Image
    uncertainty: Float[Tensor, "b h w"] | None = None
    damage: Damage | None = None
    decisions: Sequence[Decision] = ()

    def __repr__(self) -> str:
        """Gives the shapes and what was decided."""
        doubt = "unknown" if self.uncertainty is None else brief(self.uncertainty)
        said = [decision.action for decision in self.decisions]
        decided = "".join(f", {said.count(action)} {action}" for action in dict.fromkeys(said))
        return f"Restored(images {brief(self.images)}, uncertainty {doubt}{decided})"

    def _repr_png_(self) -> bytes:
        return as_png(self.images)


class Finished(NamedTuple):
    """A restored photograph.

    Attributes:
        pixels: `H W 3`, RGB, 8-bit levels. Of an aligned face: a square, of the restorer's side or of the photograph's
            own where that is larger; the photograph itself where it is left.
        found: Every face of the photograph.
        chosen: Numbers of the faces that were asked for.
        before: Each chosen face, `3 s s`, unit, as it was, at the side at which it was put together.
        after: The same, after restoring and blending.
        uncertainty: `n h w`, [0, 1], of the faces that the network was asked about; None where that is not known.
        decisions: What was done with each chosen face.
        deep: The same as `pixels` in 16-bit levels, where those of the photograph were given.
        grain: Standard deviation of the grain that each chosen face got back, 8-bit levels; 0 for those that got none.
    """

    pixels: UInt8[np.ndarray, "H W 3"]
    found: list[Face]
    chosen: list[int]
    before: list[Float[Tensor, "3 s s"]]
    after: list[Float[Tensor, "3 s s"]]
    uncertainty: Float[Tensor, "n h w"] | None
    decisions: list[Decision | None]
    deep: UInt16[np.ndarray, "H W 3"] | None = None
    grain: Sequence[float] = ()

    @property
    def untouched(self) -> bool:
        """Whether every chosen face was left as it was, so that the photograph is unchanged."""
        return all(decision is not None and decision.action == "left" for decision in self.decisions)


def finish(
    prepared: Prepared,
    restored: Restored,
    *,
    choices: Choices,
    mask: Callable[[Float[Tensor, "3 size size"]], Float[Tensor, "size size"]] | None = None,
    deep: UInt16[np.ndarray, "H W 3"] | None = None,
    upscaling: Upscaling | None = None,
) -> Finished:
    """Puts the restored faces together with what they replace, and into their places.

    Args:
        prepared: What `prepare` gave.
        restored: The network's answer for the crops that it was asked about.
        choices: Strength, colour, and whether the photograph was aligned.
        mask: Further weights for each crop, such as a face parser's.
        deep: The photograph's 16-bit levels; what is not pasted over keeps them.
        upscaling: Enlarge the whole photograph, and paste the restored faces at the new size.

    Raises:
        ValueError: 16-bit levels or an aligned face are to be enlarged; or the restorer gave no squares or another
            number of faces, or values that are not finite.
    """
    if upscaling is not None and (deep is not None or choices.aligned):
        raise ValueError("only whole photographs of 8-bit levels are enlarged; leave out deep and aligned")
    images, asked = restored.images.float().cpu(), prepared.asked
    if images.shape != (len(asked), 3, images.shape[-1], images.shape[-1]):
        expected = f"({len(asked)}, 3, size, size)"
        raise ValueError(f"the restorer gave images of shape {tuple(images.shape)}, expected {expected}")
    if not bool(images.isfinite().all()):
        raise ValueError("the restorer gave values that are not finite")
    before, after = [crop.image for crop in prepared.crops], [crop.image for crop in prepared.crops]
    crops, grain = [], [0.0] * len(before)
    for at, image in zip(asked, images.clamp(0, 1), strict=True):
        own = prepared.own[at]
        before[at], after[at] = _put_together(own.image, image, prepared.decisions[at], prepared.tints[at], choices)
        crops.append(Crop(after[at], at_side(own.matrix, own.image.shape[-1], after[at].shape[-1])))
    if not choices.aligned:
        left = [crop for at, crop in enumerate(prepared.crops) if at not in asked]
        whole = prepared.pixels if deep is None else deep
        if upscaling is not None:
            whole = enlarged(prepared.pixels, upscaling)
            crops, left = ([scaled_crop(crop, upscaling.factor) for crop in part] for part in (crops, left))
        share = check_share(choices.grain, name="grain")
        keeper = GrainKeeper(whole, share=share, tints=[prepared.tints[at] for at in asked])
        pixels = paste(whole, crops, beside=left, mask=mask, added=None if share == 0 else keeper)
        for at, levels in zip(asked, keeper.levels, strict=True):
            grain[at] = levels
    else:
        pixels = (prepared.pixels if deep is None else deep).copy()
        if crops:
            levels = rearrange(after[0] * float(np.iinfo(pixels.dtype).max), "c h w -> h w c").round()
            pixels = levels.numpy().astype(pixels.dtype)
    if deep is not None:
        deep, pixels = pixels, (pixels >> 8).astype(np.uint8)
    return Finished(
        pixels, prepared.found, prepared.chosen, before, after, restored.uncertainty, list(prepared.decisions), deep,
        grain,
    )  # fmt: skip


def answer(
    restorer: Restorer,
    images: Image,
    *,
    uncertainty: bool = False,
    fidelities: Sequence[float | None] | None = None,
) -> Restored:
    """Gives what the model of a restorer answers for aligned faces; whether restoring helps is decided elsewhere.

    Args:
        restorer: Has `size` and takes `b 3 size size`, unit; with a method `restore` it takes fidelities, with that or
            `examine` it can also say how sure it is.
        images: `b 3 size size`, unit.
        uncertainty: Whether to ask for that.
        fidelities: The fidelity that the model is given for each face.

    Raises:
        ValueError: The restorer cannot say how sure it is.
    """
    if not len(images):
        return Restored(torch.zeros(0, 3, restorer.size, restorer.size))
    restore = getattr(restorer, "restore", None)
    if restore is not None:
        return restore(images, fidelities=fidelities, uncertainty=uncertainty)
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
    choices: Choices | None = None,
    uncertainty: bool = False,
) -> Finished:
    """Restores the faces of one photograph, and leaves those that a restorer with a `judge` finds good enough.

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
    choices, judge = choices or Choices(), getattr(restorer, "judge", None)
    prepared = prepare(pixels, detector, size=restorer.size, choices=choices, faces=faces, judge=judge)
    crops = [prepared.crops[at].image for at in prepared.asked]
    images = torch.stack(crops) if crops else torch.zeros(0, 3, restorer.size, restorer.size)
    given = answer(restorer, images, uncertainty=uncertainty, fidelities=prepared.fidelities)
    return finish(prepared, given, choices=choices)


def _put_together(
    face: Float[Tensor, "3 n n"],
    image: Float[Tensor, "3 m m"],
    decision: Decision | None,
    tint: Tint | None,
    choices: Choices,
) -> tuple[Float[Tensor, "3 s s"], Float[Tensor, "3 s s"]]:
    """Gives a face before and after, at one size."""
    crossover = None if decision is None else decision.crossover
    before = scaled(face, image.shape[-1] if crossover is None else max(face.shape[-1], image.shape[-1]))
    given = before
    if tint is not None:
        given, image = tint.without(before[None])[0], tint.without(image[None])[0]
    if crossover is not None:
        image = keep_trustworthy(given, image, crossover)
    elif choices.colour:
        image = match_colour(image[None], given[None])[0]
    image = (given + choices.strength * (image - given)).clamp(0, 1)
    return before, image if tint is None else tint.over(image[None])[0]

"""A small network that says how a face was damaged and what is left of it, from the statistics of its pixels.

It gives three quantiles of five figures: the middle is the estimate, the outer two say how sure it is. Trained on faces
that were damaged by `codeprior.degradations` (`codeprior.recipes.damage`), whose records are the truth.
"""

import json
import math
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from codeprior import files
from codeprior.checkpoints.archive import check_size
from codeprior.checkpoints.machine import Refused
from codeprior.checkpoints.plain import read_tensors
from codeprior.estimators.limit import reduced
from codeprior.estimators.statistics import COUNT, TILE, face_statistics
from codeprior.layers import configured
from codeprior.shapes import Image

LARGEST = 4096
"""Longest side of a face, pixels."""

_FAMILIAR = 512  # longest side of faces in training
_HELD = 0.35  # cycles per pixel of block averages: what lies below is not theirs but the face's
_REDUCED = 1.2


class Damage(NamedTuple):
    """What was done to each face of a batch, each `(b,)`.

    Attributes:
        blur: Standard deviation of a Gaussian that blurs as much, pixels of the face as given.
        reduction: Factor by which it looks reduced and enlarged again, at least 1.
        noise: Standard deviation, 8-bit levels, where it was added.
        quality: JPEG quality; 100 where no compression shows.
        limit: Highest spatial frequency that is still trustworthy, cycles per pixel of the face as given, in (0, 0.5];
            `measured_limit` says exactly what that is.
    """

    blur: Float[Tensor, " b"]
    reduction: Float[Tensor, " b"]
    noise: Float[Tensor, " b"]
    quality: Float[Tensor, " b"]
    limit: Float[Tensor, " b"]


class Examined(NamedTuple):
    """An estimate and how sure it is.

    Attributes:
        damage: The middle of what is likely.
        low: One face in ten has less.
        high: One face in ten has more.
    """

    damage: Damage
    low: Damage
    high: Damage


@configured
class DamageEstimator(nn.Module):
    """Estimates blur, reduction, noise, JPEG quality and the trustworthy limit of faces of any size.

    Args:
        width: Channels of the two hidden layers.
    """

    mean: Tensor
    spread: Tensor
    widening: Tensor

    def __init__(self, width: int = 256):
        super().__init__()
        self.register_buffer("mean", torch.zeros(COUNT))
        self.register_buffer("spread", torch.ones(COUNT))
        # by how much the outer quantiles are moved out after training, so that they hold for other people's faces
        self.register_buffer("widening", torch.ones(5, 2))
        self.layers = nn.Sequential(
            nn.Linear(COUNT, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 15)
        )

    def forward(self, statistics: Float[Tensor, "b n"]) -> Float[Tensor, "b 5 3"]:
        """Gives the quantiles 0.1, 0.5 and 0.9 of the five figures, in the coordinates of `to_coordinates`.

        Args:
            statistics: Rows of `face_statistics`.
        """
        # numbers far outside what was seen in training count as the most extreme seen
        rows = ((statistics - self.mean) / self.spread).clamp(-4, 4)
        middle, below, above = rearrange(self.layers(rows), "b (q k) -> q b k", q=3)
        low, high = middle - F.softplus(below) * self.widening[:, 0], middle + F.softplus(above) * self.widening[:, 1]
        return torch.stack([low, middle, high], dim=-1)

    def coordinates(self, faces: Image) -> Float[Tensor, "b 5"]:
        """Gives the middle estimates in the coordinates of `to_coordinates`, with a gradient to the pixels.

        For networks that are trained against the estimate, such as LCQS. Of faces up to 512 px that is what `examine`
        finds before it is brought within the ranges that damage can have; larger ones are not looked at from afar here.

        Args:
            faces: Unit, at the resolution that they were damaged at; sides from 32 to 4096 pixels. Values outside
                [0, 1], which a generator may give, are taken as they are.

        Raises:
            TypeError: The faces are not floating-point.
            ValueError: Another shape or size.
        """
        _check_shape(faces)
        if not len(faces):
            return self.mean.new_zeros(0, 5)
        rows = torch.stack([face_statistics(face.cpu()) for face in faces])
        return self(rows.to(self.mean))[..., 1]

    def estimate(self, faces: Image) -> Damage:
        """Gives the damage of faces at the photograph's own resolution.

        Args:
            faces: Unit, [0, 1]; sides from 32 to 4096 pixels. Do not resize them: resizing destroys the traces.

        Returns:
            The estimate, each part `(b,)`.

        Raises:
            TypeError: The faces are not floating-point.
            ValueError: Another shape, size or range.
        """
        return self.examine(faces).damage

    @torch.no_grad()
    def examine(self, faces: Image) -> Examined:
        """Gives the damage of faces with the range in which it lies for four faces in five.

        Args:
            faces: As for `estimate`.

        Raises:
            TypeError: The faces are not floating-point.
            ValueError: Another shape, size or range.
        """
        _check_shape(faces)
        _check_range(faces)
        # one face at a time: memory stays that of one, and a batch gives what its faces give alone
        found = [self._one(face) for face in faces.detach().cpu()]
        if not found:
            return Examined(*(from_coordinates(torch.zeros(0, 5)) for _ in range(3)))
        return Examined(*(_joined([one[part] for one in found]) for part in range(3)))

    def _one(self, face: Tensor) -> Examined:
        """Gives the damage of one face, seen from so far that it is no larger than faces in training were.

        Averages over blocks hide nothing of a face whose detail ends well below what they can hold; one whose detail
        does not is looked at more closely.
        """
        factor = 2 ** max(0, math.ceil(math.log2(min(face.shape[1:]) / _FAMILIAR)))
        near = self._seen(face)
        while factor > 1:
            far = self._seen(reduced(face, factor))
            if float(far.damage.limit) < _HELD:
                return Examined(*(_from_afar(a, b, factor) for a, b in zip(far, near, strict=True)))
            factor //= 2
        return near

    def _seen(self, face: Tensor) -> Examined:
        answer = self(face_statistics(face)[None].to(self.mean)).float().cpu()
        low, middle, high = (from_coordinates(answer[..., quantile]) for quantile in range(3))
        # the coordinate of the quality falls where the quality rises
        return Examined(middle, low._replace(quality=high.quality), high._replace(quality=low.quality))


def load_estimator(path: str | Path | None = None) -> DamageEstimator:
    """Gives a trained estimator, in evaluation mode and single precision.

    Args:
        path: A file that `codeprior.save` wrote; None takes the one that comes with the library.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not the file of a damage estimator, or does not fit.
    """
    if path is not None:
        return _read(Path(path))
    with resources.as_file(resources.files("codeprior.estimators") / "weights" / "damage.safetensors") as own:
        return _read(own)


def to_coordinates(damage: Damage) -> Float[Tensor, "b 5"]:
    """Gives damage in coordinates in which equal steps look about equally large: logarithms to base 2.

    Args:
        damage: Each part `(b,)`.
    """
    return torch.stack(
        [
            (1 + damage.blur).log2(),
            damage.reduction.clamp_min(1).log2(),
            (1 + damage.noise).log2(),
            (101 - damage.quality).log2(),
            damage.limit.log2(),
        ],
        dim=-1,
    )


def from_coordinates(coordinates: Float[Tensor, "b 5"]) -> Damage:
    """Gives the damage of coordinates, within the ranges that it can have.

    Args:
        coordinates: Rows as `to_coordinates` gives them.
    """
    blur, reduction, noise, quality, limit = (column.clamp(-12, 12) for column in coordinates.unbind(-1))
    return Damage(
        blur=(blur.exp2() - 1).clamp_min(0),
        reduction=reduction.exp2().clamp_min(1),
        noise=(noise.exp2() - 1).clamp_min(0),
        quality=(101 - quality.exp2()).clamp(1, 100),
        limit=limit.exp2().clamp(1 / LARGEST, 0.5),
    )


def _joined(parts: list[Damage]) -> Damage:
    return Damage(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _from_afar(far: Damage, near: Damage, factor: int) -> Damage:
    """Gives what block averages showed in pixels of the face; they hide noise and compression, which are `near`'s."""
    # a face that was not reduced at all does not look so in the averages either
    reduction = torch.where(far.reduction > _REDUCED, far.reduction * factor, far.reduction)
    return near._replace(blur=far.blur * factor, reduction=reduction, limit=far.limit / factor)


def _read(path: Path) -> DamageEstimator:
    # the store's file, read without the store: that room stands above this one
    if not path.is_file():
        raise FileNotFoundError(f"load_estimator: {path} does not exist.")
    try:
        with files.opened(path) as file:
            check_size(file)
            tensors, header = read_tensors(file.read())
        config = json.loads(header.get("codeprior.config", "{}"))
    except (Refused, OSError, ValueError, RecursionError) as error:
        raise ValueError(f"load_estimator: {path} is not a whole safetensors file ({error}).") from error
    config: dict[str, Any] = config if isinstance(config, dict) else {}
    width = config.get("width")
    if config.get("class") != DamageEstimator.__name__ or type(width) is not int or not 0 < width <= 4096:
        raise ValueError(
            f"load_estimator: {path} does not describe a DamageEstimator; give a file that codeprior.save wrote."
        )
    with torch.random.fork_rng(devices=[]):
        estimator = DamageEstimator(width)
    try:
        estimator.load_state_dict({name: value.float() for name, value in tensors.items()})
    except RuntimeError as error:
        raise ValueError(f"load_estimator: {path} does not fit: {error}") from error
    return estimator.eval()


def _check_shape(faces: Tensor) -> None:
    who = "DamageEstimator"
    if not faces.is_floating_point():
        raise TypeError(
            f"{who}: expected floating-point faces in [0, 1], got {faces.dtype}; divide 8-bit levels by 255."
        )
    if faces.ndim != 4 or faces.shape[1] != 3:
        raise ValueError(
            f"{who}: expected faces `b 3 H W`, got {tuple(faces.shape)}; give RGB, and a batch of one for one."
        )
    height, width = faces.shape[2:]
    if not (TILE <= height <= LARGEST and TILE <= width <= LARGEST):
        raise ValueError(
            f"{who}: expected sides of {TILE} to {LARGEST} pixels, got {width}×{height}; "
            "cut the face out of a larger photograph, and leave smaller ones unjudged: they hold too few pixels."
        )


def _check_range(faces: Tensor) -> None:
    who = "DamageEstimator"
    if faces.numel():
        low, high = (float(value) for value in faces.aminmax())
        if not (math.isfinite(low) and math.isfinite(high)) or low < -1e-3 or high > 1 + 1e-3:
            raise ValueError(
                f"{who}: expected unit faces, [0, 1], got {low:g} to {high:g}; codeprior.to_unit gives them."
            )

"""A photograph's grain stays where a face is mended: film grain, sensor noise, the noise of a scanner.

A mended face is free of noise; in a photograph that keeps its grain everywhere else it looks like plastic. The grain is
measured in flat places around the face, at the photograph's own pixels: how strong it is by brightness, and its power
spectrum, for brightness and colours apart. What mending has taken of it is then made anew: a random field of that
spectrum, seeded by the photograph's own pixels. The field has no structure, so that neither the grid of JPEG nor
ringing at edges comes back with it.
"""

import math
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8, UInt16
from torch import Tensor

from codeprior.estimators.limit import luma
from codeprior.estimators.statistics import TILE, power_of_tiles, ring_numbers, tiles
from codeprior.photos.bands import fast_length, turned
from codeprior.photos.faces.paste import Window
from codeprior.photos.tints import Tint

FAINTEST = 1.0
"""8-bit levels of grain below which none is put back: nobody sees it, and a clean photograph keeps its bytes."""
STRONGEST = 6.0
"""8-bit levels of grain that a face has at most, where nobody has asked for more: the rest is noise to be rid of."""

_ACROSS, _ACROSS_FACE = 16, 12  # tiles along a side, at most, of the surroundings and of the face
_RINGS = 22  # with the corners of the spectrum
_GROUPS, _MEMBERS = 6, 12  # groups of tiles by brightness, at most, and tiles of each, at least
# grain is as strong in each flat tile; the detail of a picture is not. Of the tiles of one brightness, those of up to
# twice the power that 5 % do not reach are 0.29 to 0.93 of all where there is grain and something flat, and mostly
# below 0.25 where everything holds detail
_FLATTEST, _ALIKE, _MANY = 0.05, 2.0, 0.28
_UNEVEN = 1.8  # times the deviation of the flattest group, more than grain differs from shadows to lights
_DARKEST, _LIGHTEST = 8, 245  # mean 8-bit levels of a tile beyond which its grain is cut off
_QUIET, _MOSTLY = FAINTEST / 2, 0.2  # 8-bit levels of a tile without grain; the share of them that a clean picture has
_SLOPE, _FALL = 1.7, 3.0  # grain's power from ring 2 to ring 3, at most; the exponent with which that of detail falls
_INSIDE, _FLAT_SHARE = 0.8, 0.4  # of the largest weight, and of the tiles in a face: those in which it is compared


class Grain(NamedTuple):
    """The grain of a photograph around a face.

    Attributes:
        levels: Standard deviation of its brightness at middle brightness, 8-bit levels.
        brightness: Where its strength was measured, unit luma, ascending.
        strength: Its standard deviation there, as a multiple of that at middle brightness.
        power: Of brightness and of each of two differences of colours, squared 8-bit levels, by rings of frequency, 1
            to 22 cycles in 32 pixels. White noise has its variance in each ring.
    """

    levels: float
    brightness: Float[Tensor, " g"]
    strength: Float[Tensor, " g"]
    power: Float[Tensor, "2 r"]

    def at(self, light: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
        """Gives how strong it is at unit luma, as a multiple of that at middle brightness.

        Args:
            light: Unit luma.
        """
        strength = np.interp(light.numpy(), self.brightness.numpy(), self.strength.numpy())
        return torch.from_numpy(strength).to(light.dtype)


class Mending(NamedTuple):
    """The grain that one mended face gets back.

    Attributes:
        addition: `3 h w`, unit, to be added to the pixels after pasting; 0 where nothing is pasted.
        levels: Standard deviation of its brightness at middle brightness, 8-bit levels.
    """

    addition: Float[Tensor, "3 h w"]
    levels: float


def find_grain(part: Float[Tensor, "3 H W"]) -> Grain | None:
    """Gives the grain of a part of a photograph, or None where none can be seen, or nothing flat shows it.

    Args:
        part: Unit, [0, 1], at the photograph's own resolution.
    """
    if min(part.shape[1:]) < TILE:
        return None
    found = tiles(part.float() * 255, _ACROSS)  # n 3 t t
    means = found.mean((2, 3))
    sound = (means.amin(1) > _DARKEST) & (means.amax(1) < _LIGHTEST)
    light, power = luma(means.T) / 255, _power(found)  # n, n 3 t f
    total = _fast_variance(power[:, 0])
    if float((total < _QUIET**2)[sound].float().mean()) > _MOSTLY:
        return None
    order = light.argsort(stable=True)
    order = order[sound[order]]
    groups = []
    for group in order.tensor_split(max(1, min(_GROUPS, len(order) // _MEMBERS))):
        if len(group) >= _MEMBERS:
            alike = group[total[group] <= _ALIKE * total[group].quantile(_FLATTEST)]
            groups += [alike] if len(alike) >= _MANY * len(group) else []
    levels = [float(total[group].median().sqrt()) for group in groups]
    kept = [(group, level) for group, level in zip(groups, levels, strict=True) if level <= _UNEVEN * min(levels)]
    if not kept or min(levels) < _QUIET:
        return None
    strength = torch.tensor([level for _, level in kept])
    strength = strength / strength.median()
    even = [power[group] / share.square() for (group, _), share in zip(kept, strength, strict=True)]
    spectra = _without_detail(_rings(torch.cat(even)))
    brightness = torch.stack([light[group].median() for group, _ in kept])
    grain = Grain(_deviation(spectra[0]), brightness, strength, spectra)
    return None if grain.levels < FAINTEST else grain


def put_back(
    grain: Grain,
    before: Float[Tensor, "3 h w"],
    after: Float[Tensor, "3 h w"],
    weights: Float[Tensor, "1 h w"],
    *,
    share: float | None = None,
    tint: Tint | None = None,
) -> Mending | None:
    """Gives the grain that is missing in a face that is pasted over its photograph.

    In each ring of frequency the face has kept a share of the grain, which is known from what was taken out of it. The
    rest up to the wanted share is added, as variances add. Where the paste fades with its weights `w`, the photograph's
    own grain fades with `1 − w`, and so much more is added.

    Args:
        grain: What `find_grain` gave for the face and its surroundings.
        before: The photograph, unit.
        after: What is pasted, unit.
        weights: Of what is pasted, [0, 1].
        share: How much of the photograph's grain the face shall have, [0, 1]; None takes all, up to `STRONGEST`.
        tint: The one tint of the photograph; its grain has no colours of its own.

    Returns:
        None where nothing is missing that can be seen.
    """
    if min(before.shape[1:]) < TILE or not bool(weights.any()):
        return None
    wanted = min(1.0, STRONGEST / grain.levels) if share is None else share
    kept = _kept(grain, before, after, weights).clamp_max(wanted)
    missing = (wanted**2 - kept.square()) * grain.power
    levels = _deviation(missing[0])
    if levels < FAINTEST / 2:
        return None
    left = _deviation(kept[0].square() * grain.power[0]) / grain.levels
    generator = torch.Generator().manual_seed(zlib.crc32((before * 65535).round().int().numpy().tobytes()))
    size = before.shape[1], before.shape[2]
    weight = weights[0]
    light = luma(before + weight * (after - before))
    lacking = (1 - weight * (1 - wanted)).square() - (1 - weight * (1 - left)).square()
    amount = (lacking.clamp_min(0) / (wanted**2 - left**2)).sqrt() * grain.at(light) / 255
    brightness = amount * _field(missing[0], *size, generator)
    if tint is not None:
        grey = light.expand(3, -1, -1)
        return Mending((tint.over((grey + brightness)[None]) - tint.over(grey[None]))[0], levels)
    colours = [_field(missing[1], *size, generator) for _ in range(2)]
    return Mending(brightness + amount * turned(torch.stack([torch.zeros_like(light), *colours]), back=True), levels)


class GrainKeeper:
    """What `paste` asks for the grain of each face; it remembers how much each got.

    Args:
        photo: The photograph over which faces are pasted.
        share: As in `put_back`.
        tints: The one tint of each face; None for those that have colours.
    """

    def __init__(
        self,
        photo: UInt8[np.ndarray, "H W 3"] | UInt16[np.ndarray, "H W 3"],
        *,
        share: float | None,
        tints: Sequence[Tint | None],
    ):
        self.photo, self.share, self.tints = photo, share, tints
        self.levels = [0.0] * len(tints)

    def __call__(self, number: int, window: Window) -> Float[Tensor, "3 h w"] | None:
        """Gives what is added to a face that is pasted, unit; None where nothing is.

        Args:
            number: Of the face.
            window: Where it is pasted.
        """
        height, width = self.photo.shape[:2]
        part = self.photo[_widened(window.rows, height), _widened(window.columns, width)]
        part = rearrange(torch.from_numpy(part.astype(np.float32)), "h w c -> c h w")
        grain = find_grain(part / float(np.iinfo(self.photo.dtype).max))
        if grain is None:
            return None
        given = put_back(
            grain, window.below, window.colours, window.weights, share=self.share, tint=self.tints[number]
        )  # fmt: skip
        if given is None:
            return None
        self.levels[number] = given.levels
        return given.addition


def _widened(side: slice, most: int) -> slice:
    """Gives rows or columns of a face with those beside it: a quarter of them, three half tiles at least."""
    margin = max(3 * TILE // 2, (side.stop - side.start) // 4)
    return slice(max(0, side.start - margin), min(most, side.stop + margin))


def _power(found: Float[Tensor, "n 3 t t"]) -> Float[Tensor, "n 3 t f"]:
    """Gives the power of tiles' brightness, the mean of their channels, and of two differences of colours."""
    side_by_side = turned(rearrange(found, "n c y x -> c (n y) x"))
    power = power_of_tiles(rearrange(side_by_side, "c (n y) x -> n c y x", y=TILE))
    return power * power.new_tensor([1 / 3, 1, 1])[:, None, None]


def _fast_variance(power: Float[Tensor, "n t f"]) -> Float[Tensor, " n"]:
    """Gives the variance of tiles without that of their slowest waves, which shading has too."""
    weights = torch.full((TILE, TILE // 2 + 1), 2.0)
    weights[:, 0] = weights[:, -1] = 1
    return (power * weights * (ring_numbers() > 1)).sum((1, 2)) / TILE**2


def _rings(power: Float[Tensor, "n 3 t f"]) -> Float[Tensor, "2 r"]:
    """Gives the power of noise by rings, of brightness and of colours.

    It is taken from the median of all waves, which a pattern's lines and the grid of JPEG do not move.
    """
    ring = ring_numbers()
    parts = power[:, :1], power[:, 1:]
    medians = [[part[..., ring == number].median() for number in range(1, _RINGS + 1)] for part in parts]
    # the power of a wave of noise is distributed exponentially, with its median at ln 2 of the mean
    return torch.tensor(medians) / math.log(2)


def _without_detail(rings: Float[Tensor, "2 r"]) -> Float[Tensor, "2 r"]:
    """Gives the power of grain, where some of the tiles hold detail too.

    The power of detail falls with the third power of frequency, that of grain slowly at first, however coarse it is. So
    much detail is taken away that ring 2 has 1.7 times the power of ring 3 at most; ring 1 holds shading, and is set to
    what ring 2 has.
    """
    second, third = rings[:, 1], rings[:, 2]
    fall = (torch.arange(1, _RINGS + 1) / 2) ** -_FALL
    detail = ((second - _SLOPE * third) / (1 - _SLOPE * fall[2])).clamp_min(0).minimum(second)
    rings = (rings - detail[:, None] * fall).clamp_min(0)
    return torch.cat([rings[:, 1:2], rings[:, 1:]], 1)


def _kept(grain: Grain, before: Tensor, after: Tensor, weights: Tensor) -> Float[Tensor, "2 r"]:
    """Gives the share of the grain's amplitude that a mended face still has, [0, 1], from what was taken out of it."""
    inside = tiles(weights, _ACROSS_FACE).mean((1, 2, 3))
    inside = inside >= _INSIDE * inside.max()
    was = tiles(before * 255, _ACROSS_FACE)[inside]
    taken = tiles((before - after) * 255, _ACROSS_FACE)[inside]
    # what the model added is in the difference too, and least where the face is flat
    detail = _fast_variance(_power(was)[:, 0])
    flat = detail <= detail.quantile(_FLAT_SHARE)
    strength = grain.at(luma(was[flat].mean((2, 3)).T) / 255)
    taken = _rings(_power(taken[flat]) / strength.square()[:, None, None, None])
    return (1 - (taken / grain.power.clamp_min(1e-6)).sqrt()).clamp(0, 1)


def _deviation(rings: Float[Tensor, " r"]) -> float:
    """Gives the standard deviation of a field that has this power in each ring."""
    return float(_spectrum(rings, torch.fft.fftfreq(2 * TILE), torch.fft.fftfreq(2 * TILE)).mean().sqrt())


def _spectrum(rings: Float[Tensor, " r"], down: Tensor, across: Tensor) -> Tensor:
    """Gives the power at frequencies in cycles a pixel; what is slower than a tile is shading, which a face keeps."""
    radius = torch.hypot(down[:, None], across[None]) * TILE
    values = np.interp(radius.numpy(), np.arange(_RINGS + 1), [0.0, *rings.tolist()])
    return torch.from_numpy(values.astype(np.float32))


def _field(rings: Float[Tensor, " r"], height: int, width: int, generator: torch.Generator) -> Float[Tensor, "h w"]:
    """Gives Gaussian noise of this power, in the units of its root."""
    tall, wide = fast_length(height), fast_length(width)
    white = torch.randn(tall, wide, generator=generator)
    shape = _spectrum(rings, torch.fft.fftfreq(tall), torch.fft.rfftfreq(wide)).sqrt()
    return torch.fft.irfft2(torch.fft.rfft2(white) * shape, s=(tall, wide))[:height, :width]

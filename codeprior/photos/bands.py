"""What a damaged face still holds is kept, and what its damage took comes from the model: a crossover in frequency.

`keep_trustworthy` works at the resolution of the face as it stands in the photograph. The face itself is kept; the
restored face adds the share of each frequency that the blur took away, so the two meet without a seam. Above the
frequencies that the model's own size can show it adds nothing: no detail is made by enlarging. In a noisy face each
band counts by its share of signal, place by place, so that noise does not come back with the detail.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

SLOWEST = 3.0
"""Cycles a side below which a face holds shading and nothing of the person."""
_EDGE = 8  # an eighth of a side is mirrored around the face
_OVER = 1.5  # power up to 1.5 times that of the noise counts as noise, because measurements vary
_QUIET = 1.0  # 8-bit levels of noise that nobody sees
_STRONGER = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)  # factors of the frequencies at which damage has halved the amplitude


class Crossover(NamedTuple):
    """Where a face passes into the restored one, in cycles a side.

    Attributes:
        transfer: Where its blur has halved the amplitude; infinity where it is not blurred.
        reduced: Where reduction and enlargement have halved it; infinity where it was not reduced.
        reach: Up to where its content is used at all; infinity for all of it.
        noise: Standard deviation of white noise as dense as the face's, 8-bit levels.
        fitted: Whether the damage may be stronger than `transfer` and `reduced` say: of lower frequencies, down to
            half, those are taken under which the restored face explains this one best.
    """

    transfer: float
    reach: float
    noise: float = 0.0
    reduced: float = math.inf
    fitted: bool = False


def keep_trustworthy(
    face: Float[Tensor, "3 n n"], restored: Float[Tensor, "3 m m"], crossover: Crossover
) -> Float[Tensor, "3 n n"]:
    """Gives a face completed by the restored one: `y + G · (x − H · y)`.

    `x` is the face, `y` the restored one without the frequencies that `m` pixels cannot show,
    `H = exp(−ln 2 · ((f / transfer)² + (f / reduced)⁴))` what blur and reduction left of `x`, a Gaussian and a steeper
    fall, and `G = exp(−ln 2 · (f / reach)⁴)` the use of the face. With `G = 1` this is `x + (1 − H) · y`: all that the
    face has, and from the model what the damage took. Where there is noise, `G · (x − H · y)` is divided into octaves,
    each one weighted at each place, brightness and colours apart, by `(v − 1.5 · s) / v`, with `v` the local power of
    `x` in that octave and `s` that of the noise (a Wiener filter with a margin).

    Where the crossover is `fitted`, `transfer` and `reduced` are lowered together as far as makes `|x − H · y|²` least.

    Args:
        face: As it stands in the photograph, unit, [0, 1].
        restored: The model's answer for it, unit, of any size.
        crossover: Where one passes into the other.

    Returns:
        Unit, clamped.

    Raises:
        ValueError: The faces are no squares of three channels, or a figure of the crossover is negative.
    """
    side = face.shape[-1]
    if face.shape != (3, side, side) or restored.shape != (3, restored.shape[-1], restored.shape[-1]):
        raise ValueError(
            f"keep_trustworthy: expected faces 3 n n and 3 m m, got {tuple(face.shape)} and {tuple(restored.shape)}."
        )
    if not all(figure >= 0 for figure in crossover):
        raise ValueError(f"keep_trustworthy: expected figures of 0 and more, got {crossover}.")
    radius = _radius(side)
    model = _spectrum(scaled(restored.float(), side))
    if restored.shape[-1] < side:
        model = model * _falling(radius, restored.shape[-1] / 2, exponent=8)
    own = _spectrum(face.float())
    left = _left_by_damage(radius, own, model, crossover)
    missing = own - left * model
    result = _image(model, side)
    if crossover.noise <= _QUIET:
        return (result + _image(_falling(radius, crossover.reach) * missing, side)).clamp(0, 1)
    for upper, band in _octaves(radius, crossover.reach, side / 2):
        part = _image(band * missing, side)
        if upper > 2 * SLOWEST:
            power = turned(_image(band * own, side)).square()
            brightness, colours = _signal_share(
                torch.stack([power[0], power[1:].mean(0)]), band, upper, crossover.noise / 255
            )
            part = turned(turned(part) * torch.stack([brightness, colours, colours]), back=True)
        result = result + part
    return result.clamp(0, 1)


def _left_by_damage(radius: Tensor, own: Tensor, model: Tensor, crossover: Crossover) -> Tensor:
    """Gives what blur and reduction left of each frequency.

    A blur that was estimated too weak would leave haze: the model would add too little. The factor with the least
    squared difference between the face and the damaged model's answer is taken; noise in the face does not move it,
    because the model's answer holds none of it.
    """
    halved = crossover.transfer, crossover.reduced
    if not crossover.fitted or min(halved) == math.inf:
        return _of_damage(radius, *halved)
    seen = (radius >= SLOWEST) & (radius <= 2 * min(halved))
    of_face, of_model, at = own[:, seen], model[:, seen], radius[seen]
    power, common = of_model.abs().square().sum(0), (of_face * of_model.conj()).real.sum(0)

    def difference(factor: float) -> float:
        left = _of_damage(at, *(factor * cycles for cycles in halved))
        return float((left * (left * power - 2 * common)).sum(dtype=torch.float64))

    factor = min(_STRONGER, key=difference)
    return _of_damage(radius, *(factor * cycles for cycles in halved))


def _of_damage(radius: Tensor, transfer: float, reduced: float) -> Tensor:
    return _falling(radius, transfer, exponent=2) * _falling(radius, reduced)


def scaled(image: Float[Tensor, "3 m m"], side: int) -> Float[Tensor, "3 n n"]:
    """Gives a square image at another size: by area where it shrinks, bicubic where it grows.

    Args:
        image: Unit.
        side: Pixels.

    Returns:
        Unit, clamped.
    """
    if image.shape[-1] == side:
        return image
    if image.shape[-1] > side:
        return F.interpolate(image[None], size=(side, side), mode="area")[0]
    return F.interpolate(image[None], size=(side, side), mode="bicubic")[0].clamp(0, 1)


def _octaves(radius: Tensor, reach: float, fastest: float) -> list[tuple[float, Tensor]]:
    """Gives octaves as (upper frequency, transfer function), which sum to the low-pass at the reach."""
    edges = [min(reach, fastest)]
    while edges[-1] > 2 * SLOWEST:
        edges.append(edges[-1] / 2)
    passes = [_falling(radius, edge) for edge in (reach, *edges[1:])]
    bands = [wide - narrow for wide, narrow in pairwise(passes)]
    return list(zip(edges, [*bands, passes[-1]], strict=True))


def turned(image: Tensor, *, back: bool = False) -> Tensor:
    """Gives brightness and two differences of colour, in which white noise is as strong as in red, green and blue.

    Detail is mostly in brightness; weighted together with it, the noise of the colours would stay.
    """
    rows = [(1, 1, 1), (1, -1, 0), (1, 1, -2)]
    axes = F.normalize(image.new_tensor(rows), dim=1)
    return einsum(axes.T if back else axes, image, "o i, i h w -> o h w")


def _signal_share(power: Tensor, band: Tensor, upper: float, noise: float) -> Tensor:
    """Gives the share of a band's local power that is not noise, [0, 1], from its power `c n n` at each place."""
    side = power.shape[-1]
    reach = max(1, min(side // 4, round(side / upper)))  # half the longest wave of the octave, pixels
    for _ in range(2):  # two boxes are smooth enough
        power = _box(_box(power, reach).mT, reach).mT
    # the mean square of the transfer function: in a half-plane every column but the first stands for two
    weights = torch.full_like(band, 2.0)
    weights[:, 0] = 1
    share = noise**2 * float((weights * band.square()).sum() / weights.sum())
    return ((power - _OVER * share) / power.clamp_min(1e-12)).clamp(0, 1)


def _box(values: Tensor, reach: int) -> Tensor:
    """Gives the mean of each place and `reach` places before and behind it in its row; the ends are repeated."""
    # a sum up to each place costs the same for every reach, and its differences need double precision
    sums = F.pad(F.pad(values.double(), (reach, reach), mode="replicate").cumsum(-1), (1, 0))
    window = 2 * reach + 1
    return ((sums[..., window:] - sums[..., :-window]) / window).clamp_min(0).to(values.dtype)


def _falling(radius: Tensor, half: float, *, exponent: int = 4) -> Tensor:
    """Gives a transfer function that falls from 1 and passes one half at a frequency."""
    if half == 0:
        return torch.zeros_like(radius)
    return torch.exp(-math.log(2) * (radius / half) ** exponent)


def _borders(side: int) -> tuple[int, int]:
    """Gives how much is mirrored before and after a face: after it, so much more that the transform is a fast one."""
    border = min(side - 1, max(4, side // _EDGE))
    after = fast_length(side + 2 * border) - side - border
    return border, after if after < side else border


def fast_length(length: int) -> int:
    """Gives the next even length without a prime factor above 5, for which a Fourier transform takes half the time."""
    length += length % 2
    while pow(30, 12, length):  # a number of these factors alone divides a high power of their product
        length += 2
    return length


def _radius(side: int) -> Tensor:
    """Gives the frequency of each place of a spectrum, cycles in a side of the face without its border."""
    whole = side + sum(_borders(side))
    return torch.hypot(torch.fft.fftfreq(whole)[:, None], torch.fft.rfftfreq(whole)[None]) * side


def _spectrum(image: Tensor) -> Tensor:
    return torch.fft.rfft2(F.pad(image[None], _borders(image.shape[-1]) * 2, mode="reflect")[0])


def _image(spectrum: Tensor, side: int) -> Tensor:
    before, after = _borders(side)
    whole = before + side + after
    return torch.fft.irfft2(spectrum, s=(whole, whole))[..., before : before + side, before : before + side]

"""What `codeprior inspect` does with a photograph: faces cut out as they are, figures, words, and a picture of them."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from codeprior.estimators import Examined, radial_spectrum
from codeprior.estimators.damage import LARGEST
from codeprior.estimators.statistics import TILE
from codeprior.images import from_levels, to_array
from codeprior.photos.faces import Detector, Face, choose, region, search, usable
from codeprior.photos.restoration import Choices

_FACE, _CHART, _TEXT, _GAP, _TITLE = 256, 400, 330, 16, 24
_INK, _PALE, _LIMIT, _RANGE = (30, 30, 30), (200, 200, 200), (200, 80, 0), (255, 228, 200)
_UNITS = {"blur": "pixels", "reduction": "times", "noise": "levels", "quality": "of 100", "limit": "cycles/pixel"}
_DIGITS = {"blur": 1, "reduction": 1, "noise": 1, "quality": 0, "limit": 3}
_FIGURES = tuple(_UNITS)


class CutFace(NamedTuple):
    """A face as it stands in its photograph.

    Attributes:
        image: `3 H W`, unit: the photograph's own pixels.
        face: What the detector said about it; None for an aligned one.
    """

    image: Float[Tensor, "3 H W"]
    face: Face | None


def cut_faces(pixels: UInt8[np.ndarray, "H W 3"], detector: Detector | None, choices: Choices) -> list[CutFace]:
    """Cuts the faces out of a photograph without resampling them.

    Args:
        pixels: RGB, 8-bit levels.
        detector: What finds the faces; None where the whole picture is one.
        choices: Which faces, their least score and size.

    Raises:
        ValueError: There is no face, or one of those chosen is too small to be judged.
    """
    image = from_levels(pixels)
    if detector is None:
        return [CutFace(image, None)]
    height, width = pixels.shape[:2]
    found = search(detector, pixels, smallest=choices.smallest, score=choices.score)
    good = [found[number] for number in usable(found, score=choices.score, smallest=choices.smallest)]
    cut = []
    for index in choose(good, choices.faces, width=width, height=height):
        rows, columns = region(good[index].points, height=height, width=width)
        part = image[:, rows, columns]
        if min(part.shape[1:]) < TILE:
            size = f"{part.shape[2]}×{part.shape[1]}"
            raise ValueError(f"a face has only {size} pixels, and {TILE} a side are needed to judge it")
        top, left = (max(0, (side - LARGEST) // 2) for side in part.shape[1:])
        cut.append(CutFace(part[:, top : top + LARGEST, left : left + LARGEST], good[index]))
    return cut


def described(cut: CutFace, examined: Examined) -> dict[str, Any]:
    """Gives what the report says about a face.

    Args:
        cut: The face.
        examined: What the estimator said about it, a batch of one.
    """
    height, width = cut.image.shape[1:]
    place: dict[str, Any] = {}
    if cut.face is not None:
        place = {
            "box": [round(float(value), 1) for value in cut.face.box],
            "points": [[round(float(x), 1), round(float(y), 1)] for x, y in cut.face.points],
            "score": round(cut.face.score, 4),
        }
    middle, low, high = (_rounded(part) for part in examined)
    # two pixels hold one cycle
    detail = max(1, round(2 * middle["limit"] * min(height, width)))
    return {**place, "size": [width, height], **middle, "low": low, "high": high, "detail": detail}


def in_words(face: dict[str, Any]) -> str:
    """Gives a sentence about a face for readers.

    Args:
        face: What `described` gave.
    """
    width, height = face["size"]
    sharp = _word(
        face["limit"], (0.05, "hardly more than a shape"), (0.1, "very soft"), (0.2, "soft"), (0.35, "a little soft")
    )
    noise = _word(face["noise"], (1.5, "hardly any noise"), (6, "slight noise"), (15, "noise"), most="strong noise")
    jpeg = _word(face["quality"], (50, "strong JPEG"), (80, "JPEG"), (95, "light JPEG"), most="hardly any JPEG")
    return (
        f"{width}×{height} pixels, {sharp}: "
        f"detail up to {face['limit']:.3f} cycles per pixel {_range(face, 'limit')}, "
        f"as much as a sharp face of {face['detail']} pixels; "
        f"blur σ {face['blur']:.1f} pixels {_range(face, 'blur')}; "
        f"looks reduced {face['reduction']:.1f} times {_range(face, 'reduction')}; "
        f"{noise}, σ {face['noise']:.1f} levels {_range(face, 'noise')}; "
        f"{jpeg}, quality {face['quality']:.0f} {_range(face, 'quality')}"
    )


def drawing(seen: Sequence[tuple[str, Tensor, dict[str, Any]]]) -> UInt8[np.ndarray, "H W 3"]:
    """Draws faces, each with its radial spectrum, its limit and its figures.

    Args:
        seen: For each face its name, the face `3 H W`, unit, and what `described` gave.

    Returns:
        `H W 3`, RGB, 8-bit levels.
    """
    tall = _TITLE + _FACE + _GAP
    sheet = Image.new("RGB", (_FACE + _CHART + _TEXT + 4 * _GAP, tall * len(seen) + _GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=14)
    for number, (name, image, face) in enumerate(seen):
        top = _GAP + number * tall
        pen.text((_GAP, top), _shortened(name), fill=_INK, font=font)
        picture = Image.fromarray(to_array(image))
        scale = _FACE / max(picture.size)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        # enlarged pixel by pixel, so that nothing looks softer than it is
        kind = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX
        sheet.paste(picture.resize(size, kind), (_GAP, top + _TITLE))
        _draw_spectrum(pen, font, image, face, left=2 * _GAP + _FACE, top=top + _TITLE)
        _write_figures(pen, font, face, left=3 * _GAP + _FACE + _CHART, top=top + _TITLE)
    return np.array(sheet)


def _draw_spectrum(
    pen: ImageDraw.ImageDraw, font: Any, image: Tensor, face: dict[str, Any], *, left: int, top: int
) -> None:
    frequencies, power = radial_spectrum(image)
    heights = power.clamp_min(1e-4).log10()
    low, high = math.floor(float(heights.min())), math.ceil(float(heights.max()) + 0.01)
    first, bottom = math.log2(float(frequencies[0])), top + _FACE - 36

    def across(frequency: float) -> float:
        share = (math.log2(max(frequency, 2**first)) - first) / (-1 - first)
        return left + 44 + share * (_CHART - 52)

    def down(height: float) -> float:
        return bottom - (height - low) / (high - low) * (bottom - top)

    pen.rectangle((across(face["low"]["limit"]), top, across(face["high"]["limit"]), bottom), fill=_RANGE)
    for power_of_ten in range(low, high + 1, max(1, (high - low) // 4)):
        pen.line((left + 44, down(power_of_ten), left + _CHART - 8, down(power_of_ten)), fill=_PALE)
        pen.text((left, down(power_of_ten) - 9), f"1e{power_of_ten}", fill=_INK, font=font)
    for denominator in (2**power for power in range(1, math.floor(-first) + 1)):
        x = across(1 / denominator)
        pen.line((x, bottom, x, bottom + 4), fill=_INK)
        pen.text((x - 12, bottom + 4), f"1/{denominator}", fill=_INK, font=font)
    pen.text((left + 44, bottom + 20), "cycles per pixel; power in squared 8-bit levels", fill=_INK, font=font)
    points = [(across(float(f)), down(float(h))) for f, h in zip(frequencies, heights, strict=True)]
    pen.line(points, fill=_INK, width=2)
    pen.line((across(face["limit"]), top, across(face["limit"]), bottom), fill=_LIMIT, width=2)


def _write_figures(pen: ImageDraw.ImageDraw, font: Any, face: dict[str, Any], *, left: int, top: int) -> None:
    for line, name in enumerate(_FIGURES):
        value, low, high = (f"{part[name]:.{_DIGITS[name]}f}" for part in (face, face["low"], face["high"]))
        texts = (name, value, f"{low} to {high}", _UNITS[name])
        for place, text in zip((0, 80, 140, 245), texts, strict=True):
            pen.text((left + place, top + 24 * line), text, fill=_LIMIT if name == "limit" else _INK, font=font)
    width, height = face["size"]
    detail = f"{width} by {height} pixels hold the detail\nof a sharp face of {face['detail']} pixels"
    pen.multiline_text((left, top + 24 * len(_FIGURES) + 8), detail, fill=_INK, font=font, spacing=8)


def _rounded(damage: Any) -> dict[str, float]:
    return {name: round(float(getattr(damage, name)[0]), 4) for name in _FIGURES}


def _range(face: dict[str, Any], name: str) -> str:
    return f"({face['low'][name]:.{_DIGITS[name]}f} to {face['high'][name]:.{_DIGITS[name]}f})"


def _word(value: float, *steps: tuple[float, str], most: str = "sharp") -> str:
    return next((word for below, word in steps if value < below), most)


def _shortened(name: str) -> str:
    plain = "".join(letter if letter.isprintable() else "?" for letter in name)
    return plain if len(plain) <= 100 else f"{plain[:60]}…{plain[-39:]}"

"""The faces that a method makes worst, as one picture: input, restored and clean side by side, figures under each."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image as Pictures
from PIL import ImageDraw, ImageFont
from torch import Tensor

from codeprior.evaluation.methods import CLEAN, INPUT
from codeprior.images import to_array
from codeprior.metrics.results import Results

_SIDE, _GAP, _LINE = 192, 8, 15  # pixels: of a face, between faces, of a line of text
_COLUMNS = 2  # triples side by side


class Worst(NamedTuple):
    """A face and what a method did to it.

    Attributes:
        name: Of the face.
        gain: The input's figure minus the restored face's, positive where the method helps.
    """

    name: str
    gain: float


def worst_faces(results: Results, method: str, *, column: str = "identity", count: int = 10) -> list[Worst]:
    """Gives the faces on which a method gains least over its input, the worst first.

    Args:
        results: With the method `input`.
        method: Which.
        column: Heading of the figure.
        count: At most so many.

    Raises:
        ValueError: There is no such column or method.
    """
    measures = {measure.name: measure for measure in results.measures}
    if column not in measures or method not in results.values:
        raise ValueError(
            f"worst_faces: expected a column of {', '.join(measures)} and a method of {', '.join(results.values)}, got "
            f"{column!r} and {method!r}."
        )
    sign = 1 if measures[column].higher_is_better else -1
    before, after = results.values[INPUT], results.values[method]
    gains = [Worst(name, sign * (row[column] - before[name][column])) for name, row in after.items() if name in before]
    return sorted(gains, key=lambda one: one.gain)[:count]


def worst_picture(
    results: Results, method: str, shown: Mapping[str, Mapping[str, Tensor]], worst: Sequence[Worst]
) -> UInt8[np.ndarray, "H W 3"]:
    """Draws the worst faces.

    Args:
        results: Whose figures are written under the faces.
        method: Which.
        shown: Face to the pictures `input`, the method's and `clean`, each `3 S S`, unit.
        worst: The faces, in the order in which they are drawn.
    """
    lines = 1 + len(results.measures[:4])
    height, width = _SIDE + lines * _LINE + 2 * _GAP, 3 * (_SIDE + _GAP) + _GAP
    rows = (len(worst) + _COLUMNS - 1) // _COLUMNS
    sheet = Pictures.new("RGB", (min(len(worst), _COLUMNS) * width, max(rows, 1) * height), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for place, one in enumerate(worst):
        top, left = place // _COLUMNS * height + _GAP, place % _COLUMNS * width + _GAP
        for column, label in enumerate((INPUT, method, CLEAN)):
            at = left + column * (_SIDE + _GAP)
            picture = Pictures.fromarray(to_array(shown[one.name][label]))
            sheet.paste(picture.resize((_SIDE, _SIDE), Pictures.Resampling.LANCZOS), (at, top))
            for line, text in enumerate(_caption(results, one.name, label)):
                pen.text((at, top + _SIDE + 2 + line * _LINE), text, fill="black", font=font)
    return np.asarray(sheet)


def _caption(results: Results, name: str, label: str) -> list[str]:
    if label == CLEAN:
        return [f"clean: {name}"]
    row = results.values[label][name]
    return [label[:30]] + [
        f"{measure.name} {row[measure.name]:.3g}{f' {measure.unit}' if measure.unit else ''}"
        for measure in _shown(results)
    ]


def _shown(results: Results) -> list:
    # identity first: it is what the faces are ranked by
    return sorted(results.measures, key=lambda measure: measure.name != "identity")[:4]

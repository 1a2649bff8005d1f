"""A contact sheet of a degradation: the picture as it was, and after each step, with what was drawn."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from codeprior.degradations import Step
from codeprior.images import to_levels

_MARGIN, _LINE, _LINES = 8, 13, 4
_HIDDEN = ("key", "kind", "interpolation")  # no one reads a 64-bit key


def contact_sheet(image: Tensor, done: Sequence[Step], *, side: int = 256, columns: int = 4) -> NDArray[np.uint8]:
    """Gives a sheet with a cell a step; smaller pictures are enlarged without smoothing, so that pixels show.

    Args:
        image: The picture before, `3 H W`, unit or uint8.
        done: What `degradations.steps` gave.
        side: Longest side of a cell's picture, pixels.
        columns: Cells beside one another.

    Returns:
        `H W 3`, RGB, 8-bit levels.
    """
    first = to_levels(image) if image.is_floating_point() else image
    cells = [("before", first), *((_said(step, side // 6), step.image) for step in done)]
    rows = -(-len(cells) // columns)
    wide = side + _MARGIN
    tall = side + _MARGIN + _LINE * _LINES
    sheet = Image.new("RGB", (min(columns, len(cells)) * wide + _MARGIN, rows * tall + _MARGIN), (255, 255, 255))
    pen = ImageDraw.Draw(sheet)
    for number, (text, planes) in enumerate(cells):
        left, top = _MARGIN + number % columns * wide, _MARGIN + number // columns * tall
        picture = Image.fromarray(np.ascontiguousarray(planes.permute(1, 2, 0).numpy()))
        scale = side / max(picture.size)
        new = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        sheet.paste(picture.resize(new, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX), (left, top))
        pen.multiline_text((left, top + side + 2), text, fill=(0, 0, 0), spacing=2)
    return np.asarray(sheet)


def _said(step: Step, letters: int) -> str:
    height, width = step.image.shape[1:]
    parts = [f"{name} {_short(value)}" for name, value in step.values.items() if name not in _HIDDEN]
    lines, line = [f"{step.name}  ({width}x{height})"], ""
    for part in parts:
        if line and len(line) + len(part) > letters - 2:
            lines, line = [*lines, line], ""
        line = f"{line}, {part}" if line else part
    return "\n".join([*lines, line][:_LINES])


def _short(value: Any) -> str:
    if isinstance(value, list):
        return "/".join(_short(each) for each in value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)

"""JPEG as libjpeg makes it: 4:2:0, standard tables, accurate integer DCT, fancy upsampling."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from codeprior.extras import needed

from ._canvas import Canvas
from ._draws import Draws
from ._run import Mode
from .blur import ordered
from .op import Op, Pixels, Sizes, reject
from .record import Values


@dataclass(frozen=True, kw_only=True)
class Jpeg(Op):
    """Compresses and decompresses; the input is clamped and rounded half to even, the result lies on the 8-bit grid.

    On the CPU libjpeg itself runs, elsewhere its integer arithmetic in torch, with the same result. Mode `diff` passes
    gradients through the rounding of coefficients (see the docs page).

    Args:
        quality: Range of the quality, 1 to 100, drawn as a real number.
        cast: How it becomes whole: `round` (half to even, as OpenCV 4.5.2 does with floats) or `floor` (as `int()`).

    Source: specifications of libjpeg-turbo's `jfdctint`, `jidctint` and fancy upsampling; quality and cast as in
        XPixelGroup/BasicSR:basicsr/data/degradations.py.
    """

    quality: tuple[float, float] = (60, 100)
    cast: Literal["round", "floor"] = "round"

    def __post_init__(self) -> None:
        ordered(self, "quality")
        if not 1 <= self.quality[0] <= self.quality[1] <= 100:
            raise ValueError(f"Jpeg: expected qualities from 1 to 100, got {self.quality}.")
        if self.cast not in ("round", "floor"):
            raise ValueError(f"Jpeg: expected cast round or floor, got {self.cast!r}.")

    def _draw(self, draws: Draws, sizes: Sizes, origin: Sizes) -> dict[str, np.ndarray]:
        quality = draws.uniform(*self.quality)
        return {"quality": (np.rint if self.cast == "round" else np.floor)(quality).astype(np.uint8)}

    def _check(self, values: Values, sizes: Sizes) -> None:
        quality = values["quality"]
        reject(self, (quality < 1) | (quality > 100), "expected a quality from 1 to 100.")

    def _one(self, image: Pixels, values: Values, strict: bool) -> Pixels:
        cv2 = needed("cv2", who="Jpeg on the CPU")

        from ._native_pixels import levels_reversed, unit_reversed

        code = _encoded(levels_reversed(image), int(values["quality"]))
        return unit_reversed(cv2.imdecode(code, cv2.IMREAD_COLOR))

    def _batch(self, canvas: Canvas, values: Values, mode: Mode) -> Canvas:
        from ._torch_jpeg import jpeg_canvas

        return jpeg_canvas(canvas, values["quality"], mode)


def jpeg_levels(image: np.ndarray, quality: int) -> np.ndarray:
    """Gives 8-bit RGB pixels, `H W 3`, through libjpeg and back."""
    cv2 = needed("cv2", who="Jpeg on the CPU")

    code = _encoded(np.ascontiguousarray(image[..., ::-1]), quality)
    return np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR))[..., ::-1]


def _encoded(blue_first: np.ndarray, quality: int) -> np.ndarray:
    cv2 = needed("cv2", who="Jpeg on the CPU")

    return cv2.imencode(".jpg", blue_first, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]

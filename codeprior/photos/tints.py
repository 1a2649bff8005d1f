"""A photograph of one tint stays of that tint: grey, sepia or cyanotype is recognised, and put back after restoring.

In such a picture the colour of a pixel follows from its brightness. `find_tint` fits red and blue as curves of the luma
and looks at what is left: what noise and JPEG leave differs from place to place, what real colours leave is alike in
neighbouring places. Blotches of colour on an old print are alike too, but faint; where all colour is that faint and no
place stands out, the picture still counts as one of a single tint.
"""

from typing import NamedTuple

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from codeprior.shapes import Image

_LUMA = (0.299, 0.587, 0.114)
_GRID = 32  # cells a side: averages over them hold little noise
_SMALLEST = 8  # pixels a side below which no tint is looked for
# 8-bit levels. Of 1,587 colour portraits the least is 4.33; of tinted faces with noise of 15 levels or JPEG of quality
# 25 the most is 3.4, where it is also below a tenth of the tint itself (colour portraits: 0.12 and more)
_LEFT, _LEFT_OF_STRONG, _SHARE = 1.3, 3.4, 0.1
# colours that nobody would miss: of 159 colour portraits with a third of their colour the least strength is 6.09; of a
# grey photograph with blotches of colour it is 4.0, where the rest is 2.8 and the largest of any cell 13.5
_FAINT, _LEFT_OF_FAINT, _SPOT = 4.5, 3.2, 16.0
_LOUD = 8.0  # 8-bit levels of rest, alike or not, above which a picture has no single tint
_GREY = 1.0  # 8-bit levels of colour that nobody sees


class Tint(NamedTuple):
    """The colour of a one-tint picture as a function of its luma.

    Attributes:
        curve: `2 3`: red minus luma and blue minus luma as `c₀ + c₁ · y + c₂ · y²` of the unit luma `y`.
        darkest: Least luma that was seen; below it the curve is constant.
        brightest: Largest luma that was seen.
    """

    curve: Float[Tensor, "2 3"]
    darkest: float
    brightest: float

    @property
    def grey(self) -> bool:
        """Whether it is no tint at all: every colour within a level of grey."""
        return not bool(self.curve.any())

    def without(self, images: Image) -> Image:
        """Gives pictures as greys, the three channels alike.

        Args:
            images: `b 3 H W`, unit.
        """
        grey = einsum(images.float(), images.new_tensor(_LUMA).float(), "b c h w, c -> b h w")
        return grey[:, None].expand(-1, 3, -1, -1).clone()

    def over(self, images: Image) -> Image:
        """Gives pictures in this tint; their own colours are dropped, their luma stays.

        Args:
            images: `b 3 H W`, unit.

        Returns:
            Unit, clamped.
        """
        greys = self.without(images)
        if self.grey:
            return greys
        luma = greys[:, 0]
        at = luma.clamp(self.darkest, self.brightest)
        red, blue = (c[0] + c[1] * at + c[2] * at * at for c in self.curve.to(luma))
        green = -(_LUMA[0] * red + _LUMA[2] * blue) / _LUMA[1]
        return torch.stack([luma + red, luma + green, luma + blue], 1).clamp(0, 1)


def find_tint(image: Float[Tensor, "3 H W"]) -> Tint | None:
    """Gives the one tint of a picture, or None where it has colours.

    Args:
        image: Unit, [0, 1].

    Returns:
        The tint; grey is one.
    """
    height, width = image.shape[1:]
    if min(height, width) < _SMALLEST:
        return None
    cells = F.adaptive_avg_pool2d(image[None].double(), (min(_GRID, height), min(_GRID, width)))[0]
    luma = einsum(cells, cells.new_tensor(_LUMA), "c h w, c -> h w")
    colour = torch.stack([cells[0] - luma, cells[2] - luma])  # 2 h w
    # clipped channels do not follow the curve
    sound = (cells.amin(0) > 4 / 255) & (cells.amax(0) < 251 / 255)
    if int(sound.sum()) < sound.numel() / 8:
        sound = torch.ones_like(sound)
    powers = torch.stack([torch.ones_like(luma), luma, luma * luma])  # 3 h w
    # a picture of one brightness has no curve; the least-squares driver must cope with that
    curve = torch.linalg.lstsq(powers[:, sound].T, colour[:, sound].T, driver="gelsd").solution.T
    rest = (colour - einsum(curve, powers, "c p, p h w -> c h w")) * sound
    alike, strength = _alike(rest, sound) * 255, float(_mean(colour.square().sum(0), sound)) ** 0.5 * 255
    loud = float(_mean(rest.square().sum(0), sound)) ** 0.5 * 255 > _LOUD
    faint = strength <= _FAINT and alike <= _LEFT_OF_FAINT and float(rest.square().sum(0).max()) ** 0.5 * 255 <= _SPOT
    if loud or not (alike <= _LEFT or faint or (alike <= _LEFT_OF_STRONG and alike <= _SHARE * strength)):
        return None
    seen = luma[sound]
    fitted = einsum(curve, powers[:, sound], "c p, p n -> c n")
    if float(fitted.abs().max()) * 255 <= _GREY:
        curve = torch.zeros_like(curve)
    return Tint(curve.float(), float(seen.min()), float(seen.max()))


def _alike(rest: Float[Tensor, "2 h w"], sound: Tensor) -> float:
    """Gives the root of the mean product of neighbours: almost 0 for noise, the whole for areas of colour."""
    rows, columns = rearrange(sound, "h w -> w h"), sound
    total = 0.0
    for values, there in ((rest, columns), (rearrange(rest, "c h w -> c w h"), rows)):
        pairs = there[:, 1:] & there[:, :-1]
        total += float(_mean((values[:, :, 1:] * values[:, :, :-1]).sum(0), pairs))
    return max(0.0, total / 2) ** 0.5


def _mean(values: Tensor, where: Tensor) -> Tensor:
    return values[where].sum() / where.sum().clamp_min(1)

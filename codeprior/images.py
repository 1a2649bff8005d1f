"""The two pixel ranges, and the only two functions that cross between them.

*Unit* is [0, 1]: files, photographs, degradations, metrics. *Signed* is [-1, 1]: what networks take and give.
"""

from jaxtyping import Float
from torch import Tensor


def to_signed(unit: Float[Tensor, "... H W"]) -> Float[Tensor, "... H W"]:
    """Gives the signed image, `2 · unit − 1`.

    Args:
        unit: Floating-point image, unit, [0, 1].

    Returns:
        The same image, signed, [-1, 1].

    Raises:
        TypeError: The image holds integers, whose range is not known here.
    """
    if not unit.is_floating_point():
        raise TypeError(
            f"to_signed: expected a floating-point image in [0, 1], got {unit.dtype}; divide 8-bit levels by 255 first."
        )
    return unit * 2 - 1


def to_unit(signed: Float[Tensor, "... H W"]) -> Float[Tensor, "... H W"]:
    """Gives the unit image, `(signed + 1) / 2` clamped to [0, 1].

    Decoders end in a convolution, so their images overshoot a little; the clamp is part of the crossing.

    Args:
        signed: Floating-point image, signed, about [-1, 1].

    Returns:
        The same image, unit, [0, 1].

    Raises:
        TypeError: The image holds integers.
    """
    if not signed.is_floating_point():
        raise TypeError(f"to_unit: expected a floating-point image in [-1, 1], got {signed.dtype}.")
    return ((signed + 1) / 2).clamp(0, 1)

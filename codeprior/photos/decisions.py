"""Whether restoring would help a face at all, and how far its own detail is to be kept.

A face that holds more than the model can give back is left as it is. One that still holds something is mended: it
stays, and the model adds what its damage took. Only where nothing can be trusted, nothing is kept. The figures come
from an estimator that looks at the face at the photograph's own resolution (`codeprior.estimators`).
"""

import math
from typing import Any, Literal, NamedTuple, Protocol

from codeprior.estimators import Damage
from codeprior.estimators.damage import LARGEST
from codeprior.photos.bands import SLOWEST, Crossover
from codeprior.shapes import Image

__all__ = ["LARGEST", "SMALLEST", "Decision", "Estimator", "as_shown", "check_share", "decide"]

SMALLEST = 32
"""Side of the smallest face that an estimator can look at, pixels; `LARGEST` is that of the largest."""
_USEFUL = 0.5  # of what the model's pixels can show; see docs/guides/restore.md for the measurement
_SHARP = 0.45  # cycles per pixel from which on pixels count as sharp; they can show 0.5
_NOISY = 8.0  # 8-bit levels of noise up to which a sharp face is left alone
_QUIET, _FINE = 1.0, 94  # noise and JPEG quality up to which, and from which on, a face counts as clean
_CLEAN, _SPOILT = (3.0, 2.0), (2.0, 0.4)  # of the limit, what is kept of a blurred and of a reduced face; see the guide
_BLUR = math.sqrt(math.log(2) / 2) / math.pi  # σ times the frequency at which a Gaussian blur halves the amplitude
_REDUCTION = 0.41  # r times the frequency at which reducing by r and enlarging again, both bicubic, halve it
_CAUTION = 1.1  # the model is less right about fine detail than the formula takes it to be


class Estimator(Protocol):
    """Anything that estimates damage, such as `codeprior.estimators.DamageEstimator`."""

    def estimate(self, faces: Image, /) -> Damage: ...


class Decision(NamedTuple):
    """What is done with a face, and why.

    Attributes:
        action: `left` untouched; `mended`, what is trustworthy is kept; or `restored`, as the model says.
        reason: A sentence without its full stop.
        side: Side of the face in the photograph, pixels.
        cycles: Highest trustworthy frequency, cycles a side; None where it was not estimated.
        damage: The estimate for this face, each part `(1,)`; None where there is none.
        fidelity: For the model, [0, 1]: 0 follows the model alone, 1 the picture as far as the model can.
        crossover: Where a mended face passes into the restored one; None for the others.
    """

    action: Literal["left", "mended", "restored"]
    reason: str
    side: float
    cycles: float | None = None
    damage: Damage | None = None
    fidelity: float | None = None
    crossover: Crossover | None = None

    def described(self) -> dict[str, Any]:
        """Gives what a report says, in words and rounded figures."""
        text: dict[str, Any] = {"decision": self.action, "reason": self.reason, "side": round(self.side, 1)}
        if self.damage is not None and self.cycles is not None:
            text["cycles"] = round(self.cycles, 1)
            text["damage"] = {name: round(float(value), 3) for name, value in self.damage._asdict().items()}
        if self.fidelity is not None:
            text["fidelity"] = round(self.fidelity, 2)
        return text


def check_share(value: float | str, *, name: str = "fidelity") -> float | None:
    """Gives a fidelity, or another share, as a number, or None where it is chosen for each face.

    Args:
        value: `auto`, or a number in [0, 1].
        name: What it is, for the error.

    Raises:
        ValueError: It is neither.
    """
    if value == "auto":
        return None
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise ValueError(f"{name} must be auto or a number from 0 to 1, got {value!r}")
    return number


def decide(
    damage: Damage | None,
    *,
    side: float,
    size: int,
    fidelity: float | None = None,
    always: bool = False,
    usual: float = 1.0,
) -> Decision:
    """Gives what to do with a face.

    Args:
        damage: What is estimated of it, each part `(1,)`; None where it could not be.
        side: Side of the face in the photograph, pixels.
        size: Side of the faces that the model takes, pixels.
        fidelity: 0 follows the model alone, 1 the picture as far as the model can; it also moves the crossover, by
            `f / (1 − f)`. None chooses by the estimate.
        always: Restore as the model says, whatever the face.
        usual: Fidelity for the model where the estimate chooses.
    """
    if always:
        return Decision("restored", "restored as the model says, as asked", side, fidelity=fidelity)
    if damage is None:
        reason = f"too small to judge ({side:.0f} of {SMALLEST} px); restored as the model says"
        return Decision("restored", reason, side, fidelity=fidelity)
    cycles, enough, noise = float(damage.limit) * side, _USEFUL * size / 2, float(damage.noise)
    figures = {"side": side, "cycles": cycles, "damage": damage}
    if cycles >= enough and noise <= _NOISY:
        reason = f"sharper than {size} px can show" if cycles >= size / 2 else f"as sharp as {size} px give back"
        return Decision("left", f"{reason}; nothing to mend", **figures)
    # DAEFR's taps are trained at weight 1 on all damage: on held-out faces 1 was nearest at every severity
    fidelity_given = usual if fidelity is None else fidelity
    if cycles < SLOWEST:
        reason = f"nothing trustworthy beyond {SLOWEST:g} cycles a face; restored as the model says"
        return Decision("restored", reason, fidelity=fidelity_given, **figures)
    crossover = _crossover(damage, side, fidelity, sharp=cycles >= enough)
    reason = (
        f"as sharp as {size} px give back, but noisy; its noise is taken out"
        if cycles >= enough
        else f"kept up to {min(cycles, crossover.reach):.0f} cycles a face; finer detail comes from the model"
    )
    return Decision("mended", reason, fidelity=fidelity_given, crossover=crossover, **figures)


def as_shown(decision: Decision) -> Decision:
    """Gives the decision about a face that is pasted back at its own size: one of sharp pixels is left as it is.

    Finer detail than the photograph's pixels can show is lost when the face is pasted back, so that a small face whose
    pixels are sharp gains nothing; taking it through the model's size and back only softens it.

    Args:
        decision: What `decide` gave, by what the model can add.
    """
    damage = decision.damage
    if decision.action != "mended" or damage is None:
        return decision
    if float(damage.limit) < _SHARP or float(damage.noise) > _NOISY:
        return decision
    reason = f"as sharp as its {decision.side:.0f} pixels can show; nothing to mend"
    return Decision("left", reason, decision.side, decision.cycles, damage)


def _crossover(damage: Damage, side: float, fidelity: float | None, *, sharp: bool) -> Crossover:
    blur, reduction, noise, quality, limit = (float(part) for part in damage)
    if fidelity == 1:
        return Crossover(math.inf, math.inf)
    transfer = _BLUR / blur if blur > 0 else math.inf  # cycles per pixel
    reduced = _REDUCTION / reduction if reduction > 1.05 else math.inf
    half = _half(transfer, reduced)
    if limit > half:  # the limit cannot lie above it: the blur was estimated too strong
        transfer, reduced, half = transfer * limit / half, reduced * limit / half, limit
    if sharp:
        reach = math.inf  # each band's own share of signal decides
    else:
        # a blur takes what the model adds, and what it leaves is sound; reduction leaves false detail
        blurred = 1.0 if half == math.inf else min(1.0, (half / transfer) ** 4)
        of_blurred, of_reduced = _CLEAN if noise <= _QUIET and quality >= _FINE else _SPOILT
        reach = (blurred * of_blurred * min(1.0, max(0.5, limit / half)) + (1 - blurred) * of_reduced) * limit
    factor = side if fidelity is None else side * fidelity / (1 - fidelity)
    transfer, reduced, reach = (
        0.0 if factor == 0 else cycles * factor for cycles in (_CAUTION * transfer, _CAUTION * reduced, reach)
    )
    # noise that was added to the reduced face fills only the bands that were left, and is denser there
    return Crossover(transfer, reach, noise * reduction, reduced, fitted=fidelity is None)


def _half(transfer: float, reduced: float) -> float:
    """Gives where `(f / transfer)² + (f / reduced)⁴ = 1`: blur and reduction together have halved the amplitude."""
    if math.inf in (transfer, reduced):
        return min(transfer, reduced)
    return math.sqrt(reduced**4 / 2 * (math.sqrt(transfer**-4 + 4 * reduced**-4) - transfer**-2))

"""How near is near enough: a rule for every kind of array, with its reason, and the distance that it measures.

The tolerances are those that the fixtures' own description gives (fixtures/daefr/FIXTURES.md, "Numerical noise").
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor


class Rule(NamedTuple):
    """What an array is held to."""

    matches: str
    """Regular expression on the whole array name."""
    tolerance: float
    measure: Callable[[Any, np.ndarray], float]
    reason: str


class Row(NamedTuple):
    """One line of the report."""

    file: str
    array: str
    tolerance: float | None
    measured: float | None
    verdict: str
    """`within`, `OUT`, or why there is nothing to compare."""

    @property
    def good(self) -> bool:
        return self.verdict == "within"


def judge(
    file: str, array: str, fixtures: Mapping[str, np.ndarray], ours: Mapping[str, Any], *, gate_open: bool
) -> Row:  # fmt: skip
    """Gives the row of one stored array.

    Args:
        file: Name of its file.
        array: Its own name.
        fixtures: What the reference gave, by array name.
        ours: All that was computed for this file; an absent name makes the row bad.
        gate_open: Whether the adversarial gate of this array's step is open, so that totals hold the adaptive weight.
    """
    if array not in ours:
        return Row(file, array, None, None, "UNKNOWN to this report")
    rule = next(rule for rule in _RULES if re.fullmatch(rule.matches, array))
    tolerance = rule.tolerance
    if rule.reason is _TOTAL and not gate_open:
        tolerance = _TERM_TOLERANCE
    value, stored = ours[array], fixtures[array]
    if array.endswith("grad_norms"):
        # the reference lists its gradients in its own order
        value = [value.get(key, np.nan) for key in fixtures[array.replace("norms", "keys")]]
    try:
        measured = rule.measure(value, stored)
    except (ValueError, IndexError) as error:
        return Row(file, array, tolerance, None, f"OUT: {error}")
    return Row(file, array, tolerance, measured, "within" if measured <= tolerance else "OUT")


def of_largest(ours: Any, stored: np.ndarray) -> float:
    """Gives the largest difference, in units of the stored tensor's largest value."""
    ours, stored = _pair(ours, stored)
    return _largest(ours - stored) / _largest(stored)


def of_largest_in_half(ours: Any, stored: np.ndarray) -> float:
    """As `of_largest`, beyond the half unit in the last place that storing in half precision took away."""
    rounding = np.spacing(np.abs(stored)).astype(np.float64) / 2
    ours, stored = _pair(ours, stored)
    return float(np.maximum(np.abs(ours - stored) - rounding, 0).max()) / _largest(stored)


def of_statistics(ours: Any, stored: np.ndarray) -> float:
    """Compares mean, deviation, least and greatest in units of the tensor's largest value, and the norm by itself."""
    ours, stored = _pair(ours, stored)
    return max(_largest((ours - stored)[:4]) / _largest(stored[2:4]), abs(ours[4] / stored[4] - 1))


def relative(ours: Any, stored: np.ndarray) -> float:
    """Gives the relative difference of a scalar; the absolute one where the stored value is zero."""
    ours, stored = _pair(ours, stored)
    return float(abs(ours - stored) / (abs(stored) or 1.0))


def how_many_differ(ours: Any, stored: np.ndarray) -> float:
    """Counts the places that hold another integer."""
    ours, stored = _pair(ours, stored)
    return float((ours != stored).sum())


def odd_ones(ours: Any, stored: np.ndarray) -> float:
    """Counts the names that only one side has."""
    return float(len(set(ours.tolist()) ^ set(stored.tolist())))


def of_norms(ours: Any, stored: np.ndarray) -> float:
    """Gives the largest relative difference of gradient norms; what is rounding noise has to be noise here too."""
    found, stored = _pair(ours, stored)
    noise = stored <= _NOISE
    if (found[noise] > 2 * _NOISE).any():
        raise ValueError(f"a gradient that should vanish has norm {found[noise].max():.1e}")
    return float(np.abs(found[~noise] / stored[~noise] - 1).max())


_NOISE = 1e-5
_TERM_TOLERANCE = 1e-5
_TOTAL = "totals contain the adaptive weight"
_SCALAR = r"(step\d+_opt\d_|train_|infer_|hq_|lq_)?"
_RULES = (
    Rule(r".*_grad_keys", 0, odd_ones, "the same tensors train"),
    Rule(r"(train|step\d+_opt[13])_grad_norms", 1e-3, of_norms, "no ill-conditioned weight in them"),
    Rule(r"step\d+_opt[02]_grad_norms", 1e-2, of_norms, "the adaptive weight is in them"),
    Rule(r".*(codes|indices)", 0, how_many_differ, "every stored margin is far above the noise"),
    Rule(r".*_stats", 1e-4, of_statistics, "rounding through the conv nets"),
    Rule(r".*(_f16|_pool8)", 1e-4, of_largest_in_half, "as features, beyond the storage's own rounding"),
    Rule(r".*_d_weight", 5e-3, relative, "kinks that rounding flips: the reference differs from itself by 5e-4"),
    Rule(r"step\d+_opt[02]_(loss|total_loss|.*aeloss)", 2e-3, relative, _TOTAL),
    Rule(
        r".*(loss|perplexity|scale_\w+|scale0|disc_factor|logits_real|logits_fake)", _TERM_TOLERANCE, relative, "a term"
    ),
    Rule(r"(infer|train)_\w+", _TERM_TOLERANCE, relative, "a term"),
    Rule(r".*", 1e-4, of_largest, "features, logits, margins and images: rounding through the conv nets"),
)


def _pair(ours: Any, stored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    ours = ours.detach().numpy() if isinstance(ours, Tensor) else np.asarray(ours)
    if ours.shape != stored.shape:
        raise ValueError(f"shape {ours.shape}, stored {stored.shape}")
    if not (np.isfinite(ours).all() and np.isfinite(stored).all()):
        raise ValueError("values that are not finite")
    return ours.astype(np.float64), stored.astype(np.float64)


def _largest(value: np.ndarray) -> float:
    return float(np.abs(value).max()) if value.size else 0.0

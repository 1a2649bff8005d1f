"""Rows of the report for the codebook family: tolerances with their reasons, and the walk down the recorded taps.

The tolerances are those of fixtures/codebook_family/FIXTURES.md, "How close is the same?".
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from tests.parity import families, family_blocks
from tests.parity.judge import Row, how_many_differ, of_largest, of_largest_in_half, relative

_TAP = 1e-4  # of the deviation of what the module gave: rounding through the networks
PASSED_THROUGH = re.compile(
    r"encoder\.pre_downsample_dict\.Level_1|decoder\.pre_upsample_dict\.Level_32"
    r"|main_decoder\.align_func_dict\.Level_1\.downsample"
)
"""Official modules that have no tensors and change nothing where they stand."""


def rows_of(path: Path, name: str, images: str, pictures: tuple[str, ...] | None = None) -> Iterator[Row]:
    """Gives a row for every array that was stored of a model.

    Args:
        path: The file.
        name: One of `families.MODELS`.
        images: Last word of the image's name.
        pictures: Tags of the pictures to compute; rows of others are left out, as are the taps without theirs.
    """
    ours = families.arrays(name, images, pictures)
    left_out = set(families.MODELS[name].pictures) - set(pictures or families.MODELS[name].pictures)
    with np.load(path, allow_pickle=False) as stored:
        for array in stored.files:
            if array.split("__")[0] in left_out or (array.startswith("taps__") and "taps" not in ours):
                continue
            if array == "f000_equals_texture" and "texture_dec" in left_out:
                continue
            yield _judged(path.name, name, array, stored, ours)


def block_rows(path: Path) -> Iterator[Row]:
    """Gives a row for every output of the recorded blocks."""
    ours = family_blocks.arrays()
    with np.load(path, allow_pickle=False) as stored:
        for array in stored.files:
            if array not in ours:
                yield Row(path.name, array, None, None, "UNKNOWN to this report")
                continue
            exact = stored[array].dtype.kind in "iu"
            measured = (how_many_differ if exact else of_largest)(ours[array], stored[array])
            # two orders of summation in float32
            yield _row(path.name, array, 0 if exact else 1e-5, measured)


def _judged(file: str, name: str, array: str, stored: Mapping[str, np.ndarray], ours: Mapping[str, Any]) -> Row:
    if array.startswith("taps__"):
        return _walked(file, array, stored, ours["taps"])
    if array not in ours:
        return Row(file, array, None, None, "UNKNOWN to this report")
    if array == "runner_up":
        second, gap = (np.asarray(value) for value in ours[array])
        # where second and third are nearly one, rounding decides between them
        return _row(file, array, 0, float(((second != stored[array]) & (gap > 1e-3)).sum()))
    tolerance, measure = _rule(name, array, stored)
    try:
        return _row(file, array, tolerance, measure(ours[array], stored[array]))
    except (ValueError, IndexError) as error:
        return Row(file, array, tolerance, None, f"OUT: {error}")


def _rule(name: str, array: str, stored: Mapping[str, np.ndarray]) -> tuple[float, Any]:
    # four random transforms amplify rounding where CodeFormer follows the picture
    amplified = name == "codeformer" and not array.startswith("w000")
    most, mean = (3e-3, 1e-4) if amplified else (2e-4, 3e-5)
    if array.endswith(("__crop", "__corner")):
        return most, lambda value, kept: _of_picture(value, kept, most / mean)
    if array.endswith("__absmax"):
        return most, _absolute
    if array.endswith("__ds8"):
        return 1e-3, _beyond_half
    if array.endswith(("__mean", "__std")):
        return 1e-4, _absolute
    if array in ("indices", "distinct_codes", "f000_equals_texture"):
        return 0, how_many_differ
    if array == "margin":
        # the difference of two logits, or of two squared distances of several hundred, from latents that differ by 1e-5
        return 1e-4, (_absolute if "logits_every16" in stored else of_largest)
    if array == "logits_every16":
        return 5e-5, _absolute
    if array == "straight_through_rounding":
        return 1e-6, _absolute  # is rounding itself
    if array in ("codebook_loss", "perplexity", "mean_distance"):
        return 1e-5, relative
    return 1e-4, of_largest_in_half if stored[array].dtype == np.float16 else of_largest


def _walked(file: str, array: str, stored: Mapping[str, np.ndarray], trace: Mapping[str, Any]) -> Row:
    """Walks down the taps in the order of execution; the verdict names the first block that disagrees."""
    worst, first, known = 0.0, "", 0
    names = [str(name) for name in stored["taps__name"]]
    for index, name in enumerate(names):
        if name in names[index + 1 :]:
            known += 1  # called twice, and only the last call is the traced picture's
            continue
        if name not in trace:
            known += bool(PASSED_THROUGH.fullmatch(name))
            first = first or ("" if PASSED_THROUGH.fullmatch(name) else name)
            continue
        known += 1
        difference = _tap_difference(array, index, stored, trace[name])
        worst = max(worst, difference)
        if difference > _TAP:
            first = first or name
    if array == "taps__name":
        missing = float(len(names) - known)
        return Row(file, array, 0, missing, "within" if not missing else f"OUT: no module of ours for {first}")
    return Row(file, array, _TAP, worst, f"OUT: first at {first}" if worst > _TAP else "within")


def _tap_difference(array: str, index: int, stored: Mapping[str, np.ndarray], found: tuple[int, float, float]) -> float:
    count, mean, deviation = found
    if array == "taps__mean":
        return abs(mean - float(stored["taps__mean"][index])) / float(stored["taps__std"][index])
    if array == "taps__std":
        return abs(deviation / float(stored["taps__std"][index]) - 1)
    sides = [int(number) for number in re.findall(r"\d+", str(stored["taps__shape"][index]))]
    return float(count != int(np.prod(sides)))


def _row(file: str, array: str, tolerance: float, measured: float) -> Row:
    return Row(file, array, tolerance, measured, "within" if measured <= tolerance else "OUT")


def _pair(ours: Any, stored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    ours = ours.detach().numpy() if isinstance(ours, Tensor) else np.asarray(ours)
    if ours.shape != stored.shape:
        raise ValueError(f"shape {ours.shape}, stored {stored.shape}")
    if not np.isfinite(ours).all():
        raise ValueError("values that are not finite")
    return ours.astype(np.float64), stored.astype(np.float64)


def _absolute(ours: Any, stored: np.ndarray) -> float:
    ours, stored = _pair(ours, stored)
    return float(np.abs(ours - stored).max())


def _of_picture(ours: Any, stored: np.ndarray, times: float) -> float:
    """Gives the largest difference, or the mean one in units of its own tolerance where that is worse."""
    ours, stored = _pair(ours, stored)
    difference = np.abs(ours - stored)
    return float(max(difference.max(), times * difference.mean()))


def _beyond_half(ours: Any, stored: np.ndarray) -> float:
    # the storage's own rounding is up to half a thousandth of a value
    ours, stored = _pair(ours, stored)
    return float((np.abs(ours - stored) - 1e-3 * np.abs(stored)).max())

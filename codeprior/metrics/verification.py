"""Face verification: are two pictures the same person, before and after restoration.

The downstream experiment of the paper: a pair's score is the distance of its embeddings; the ROC runs over all
thresholds; the accuracy takes, fold by fold, the threshold that is best on the other folds, as LFW's protocol does.
"""

import csv
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray


class FacePair(NamedTuple):
    """Two pictures and whether they show one person.

    Attributes:
        first: File of one picture.
        second: File of the other.
        same: Whether they show the same person.
    """

    first: str
    second: str
    same: bool


class Verification(NamedTuple):
    """How well distances distinguish pairs of one person from pairs of two people.

    Attributes:
        accuracy: Mean over folds, each judged at the threshold that is best on the others.
        deviation: Standard deviation of the folds' accuracies.
        area: Area under the ROC: how often a same pair is nearer than a different pair.
        equal_error: Error rate where false accepts and false rejects are equal.
        false_accepts: Rates along the ROC, rising from 0 to 1.
        true_accepts: Rates along the ROC.
        threshold: Distance that is best on all pairs.
        folds: Parts that the accuracy is the mean of.
    """

    accuracy: float
    deviation: float
    area: float
    equal_error: float
    false_accepts: NDArray[np.float64]
    true_accepts: NDArray[np.float64]
    threshold: float
    folds: int


def read_pairs(path: str | Path) -> list[FacePair]:
    """Reads pairs from a CSV with the columns `first`, `second` and `same` (1 or 0).

    Args:
        path: The CSV; pictures are named by their paths inside the folders that are compared, with or without suffix.

    Raises:
        ValueError: A column is missing, `same` is neither 1 nor 0, or there is no pair.
    """
    with Path(path).open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    pairs = []
    for number, row in enumerate(rows, start=2):
        if not {"first", "second", "same"} <= row.keys() or row["same"] not in ("0", "1"):
            raise ValueError(
                f"read_pairs: line {number} of {path}: expected the columns first, second and same (1 or 0), got {row}."
            )
        pairs.append(FacePair(row["first"], row["second"], row["same"] == "1"))
    if not pairs:
        raise ValueError(f"read_pairs: expected at least one pair in {path}, got none.")
    return pairs


def identity_pairs(identities: Mapping[str, str], generator: torch.Generator) -> list[FacePair]:
    """Gives every pair of pictures of one person, and as many pairs of different people.

    Args:
        identities: Picture to person.
        generator: Randomness of the different pairs; none is drawn twice.

    Returns:
        Same pairs first; empty where nobody has two pictures or everybody is one person.
    """
    people: dict[str, list[str]] = {}
    for picture, person in identities.items():
        people.setdefault(person, []).append(picture)
    same = [FacePair(*pair, True) for pictures in people.values() for pair in combinations(pictures, 2)]
    names = list(identities)
    wanted = min(len(same), len(names) * (len(names) - 1) // 2 - len(same))
    different: dict[tuple[str, str], FacePair] = {}
    while len(different) < wanted:
        first, second = (
            names[place] for place in sorted(torch.randint(len(names), (2,), generator=generator).tolist())
        )
        if identities[first] != identities[second]:
            different[first, second] = FacePair(first, second, False)
    return same + list(different.values())


def verify(distances: ArrayLike, same: Sequence[bool], *, folds: int = 10) -> Verification:
    """Gives accuracy and ROC of a set of pairs.

    Args:
        distances: One per pair; smaller means more alike.
        same: Whether each pair shows one person.
        folds: Parts for the accuracy; pairs are distributed over them in order, same and different pairs separately.

    Raises:
        ValueError: The lengths differ, a distance is no number, or a fold would have no pair of either kind.
    """
    values, truth = np.asarray(distances, dtype=np.float64), np.asarray(same, dtype=bool)
    if values.shape != truth.shape or np.isnan(values).any():
        raise ValueError(
            f"verify: expected one distance a pair, all numbers, got {values.shape} for {truth.shape} with "
            f"{int(np.isnan(values).sum())} missing; leave out the pairs that cannot be read."
        )
    if folds < 2 or min(truth.sum(), (~truth).sum()) < folds:
        raise ValueError(
            f"verify: expected at least {max(folds, 2)} pairs of either kind for {folds} folds (2 or more), got "
            f"{int(truth.sum())} same and {int((~truth).sum())} different."
        )
    fold = np.empty(len(truth), dtype=int)
    for kind in (truth, ~truth):
        fold[kind] = np.arange(kind.sum()) % folds
    accuracies = [
        (
            (values[fold == number] < _best(values[fold != number], truth[fold != number])) == truth[fold == number]
        ).mean()
        for number in range(folds)
    ]
    false, true = _roc(values, truth)
    area = float(np.trapezoid(true, false))
    crossing = int(np.argmin(np.abs(false - (1 - true))))
    equal_error = float((false[crossing] + 1 - true[crossing]) / 2)
    return Verification(
        float(np.mean(accuracies)),
        float(np.std(accuracies, ddof=1)),
        area,
        equal_error,
        false,
        true,
        _best(values, truth),
        folds,
    )


def _roc(values: NDArray[np.float64], truth: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    order = np.argsort(values, kind="stable")
    last = np.append(np.diff(values[order]) > 0, True)  # pairs at one distance are accepted together
    true, false = np.cumsum(truth[order])[last] / truth.sum(), np.cumsum(~truth[order])[last] / (~truth).sum()
    return np.insert(false, 0, 0.0), np.insert(true, 0, 0.0)


def _best(values: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """Gives the middle of the gap below which acceptance is right most often."""
    order = np.argsort(values, kind="stable")
    levels = values[order]
    right = np.insert(np.cumsum(np.where(truth[order], 1, -1)), 0, 0)
    edges = np.concatenate([[levels[0] - 1], (levels[:-1] + levels[1:]) / 2, [levels[-1] + 1]])
    # between equal distances there is no threshold
    open_gap = np.concatenate([[True], np.diff(levels) > 0, [True]])
    return float(edges[np.argmax(np.where(open_gap, right, -len(levels) - 1))])

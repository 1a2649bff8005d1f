"""What a level is judged by: quality without the truth, identity against it, and how far apart the qualities lie."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from codeprior.extras import needed
from codeprior.metrics import DlibFace, EfficientNetLiteTrunk, eight_bit, identity_angle, kid, niqe
from codeprior.shapes import Image

FOLDS = 5
"""Of the classifier that tells the qualities apart; it needs as many people."""

_NATURAL = 192  # pixels, side at which naturalness is measured: two blocks of 96


class Row(NamedTuple):
    """Figures of one level, means over the faces.

    Attributes:
        level: How far along the shift.
        kernel: Kernel distance of the set from other clean faces, in features of EfficientNet-Lite0; lower is better.
        naturalness: NIQE of the faces enlarged to 192 px; lower is more natural.
        identity: Angle between dlib's embeddings of restored and true faces, radians.
    """

    level: float
    kernel: float
    naturalness: float
    identity: float


def rises(rows: Sequence[Row]) -> bool:
    """Says whether the kernel distance falls from each level to the next, up to level 1.

    Args:
        rows: By level, ascending.
    """
    inside = [row.kernel for row in rows if row.level <= 1]
    return all(after < before for before, after in itertools.pairwise(inside))


def identity_lost(rows: Sequence[Row]) -> float:
    """Gives the most that the identity is further from the truth than at the first level, up to level 1, radians.

    Args:
        rows: By level, ascending.
    """
    return max(row.identity - rows[0].identity for row in rows if row.level <= 1)


def separability(high: Tensor, low: Tensor, groups: Sequence[str], *, folds: int = FOLDS) -> list[float]:
    """Gives the accuracy of a linear classifier of the two qualities on each fold that it has not seen.

    Args:
        high: Styles of clean faces, `n` rows.
        low: Styles of degraded faces, `n` rows, of the same faces in the same order.
        groups: Who is on each face; nobody is on both sides of a fold.
        folds: How many.

    Returns:
        Accuracies, [0, 1]; 0.5 is chance.

    Source: a linear support vector machine on styles, as in InterFaceGAN (Shen et al. 2020).
    """
    svm, pick = (needed(f"sklearn.{part}", who="separability") for part in ("svm", "model_selection"))
    scaling, together = (needed(f"sklearn.{part}", who="separability") for part in ("preprocessing", "pipeline"))
    rows = torch.cat((high.flatten(1), low.flatten(1))).double().numpy()
    labels = np.repeat([1, 0], [len(high), len(low)])
    classifier = together.make_pipeline(scaling.StandardScaler(), svm.LinearSVC(C=0.01, random_state=0, dual=True))
    scores = pick.cross_val_score(
        classifier, rows, labels, groups=[*groups, *groups], cv=pick.GroupKFold(n_splits=folds)
    )
    return [float(score) for score in scores]


class Measuring:
    """The networks and reference faces that the levels are measured by.

    Args:
        reference: Clean faces of other people, unit.

    Raises:
        FileNotFoundError: The weights of a measure are not on this machine.
    """

    def __init__(self, reference: Image):
        self.trunk, self.people = EfficientNetLiteTrunk(), DlibFace()
        self.reference = self.features(reference)

    @torch.no_grad()
    def features(self, faces: Image) -> Tensor:
        """Gives one row of features a face: those of stride 16, over the places, of the face enlarged to 128 px."""
        large = F.interpolate(faces, size=(128, 128), mode="bilinear")
        return torch.cat([self.trunk(part)[-1].mean((2, 3)) for part in large.split(16)])

    @torch.no_grad()
    def identities(self, faces: Image) -> Tensor:
        """Gives dlib's embedding of each face."""
        return torch.cat([self.people(part) for part in faces.split(16)])

    def row(self, level: float, faces: Image, truth: Tensor) -> Row:
        """Gives the figures of a level.

        Args:
            level: How far along the shift.
            faces: Restored, unit.
            truth: What `identities` gives of the true faces.
        """
        faces = eight_bit(faces)
        large = F.interpolate(faces, size=(_NATURAL, _NATURAL), mode="bicubic").clamp(0, 1)
        return Row(
            level=level, kernel=kid(self.features(faces), self.reference), naturalness=float(niqe(large).nanmean()),
            identity=float(identity_angle(self.identities(faces), truth).mean()),
        )  # fmt: skip

"""Whether it is still the same person: the angle between identity embeddings.

The figure that papers call IDA. The reference computes the arc cosine, in radians, although its function is named for
the cosine; so does this. Networks are injectable: `DlibFace`'s weights ship inside a package, `ArcFace` reads the
checkpoint that the papers use.
"""

from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from codeprior.metrics.provenance import Provenance
from codeprior.shapes import Image


class FaceEmbedding(Protocol):
    """A network whose embeddings of different people differ."""

    record: Provenance

    def __call__(self, faces: Image) -> Float[Tensor, "b d"]:
        """Gives the embeddings of FFHQ-aligned faces, unit, RGB, [0, 1]."""
        ...


def identity_angle(first: Float[Tensor, "b d"], second: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
    """Gives the angle between the embeddings of each pair.

    Args:
        first: Embeddings, of any length.
        second: Embeddings, of the same shape.

    Returns:
        Radians, float64 in [0, π]; 0 for the same direction. NaN where an embedding is all zeros.

    Raises:
        ValueError: The shapes differ.
    """
    if first.shape != second.shape or first.ndim != 2:
        raise ValueError(
            f"identity_angle: expected two batches of embeddings b d of one shape, got {tuple(first.shape)} and "
            f"{tuple(second.shape)}."
        )
    first, second = first.double(), second.double()
    first, second = first / first.norm(dim=1, keepdim=True), second / second.norm(dim=1, keepdim=True)
    # half-angle form: the arc cosine loses half its digits near 0, where good restorations are
    return 2 * torch.atan2((first - second).norm(dim=1), (first + second).norm(dim=1))


def identity_similarity(first: Float[Tensor, "b d"], second: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
    """Gives the cosine between the embeddings of each pair, in [-1, 1]; the cosine of `identity_angle`.

    Args:
        first: Embeddings, of any length.
        second: Embeddings, of the same shape.
    """
    return F.cosine_similarity(first.double(), second.double())

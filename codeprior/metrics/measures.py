"""A measure is one column of a table: what it looks at, how it compares, which way is better, what made it.

Looking is separate from comparing, so that a clean image goes through each network once, however many methods are
compared with it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from codeprior.metrics.accepted import unit_images
from codeprior.metrics.fidelity import colour_error, psnr, ssim
from codeprior.metrics.identity import FaceEmbedding, identity_angle
from codeprior.metrics.landmarks import Landmarks, landmark_distance
from codeprior.metrics.niqe import Pristine, niqe, pristine
from codeprior.metrics.perceptual import Trunk, feature_distance
from codeprior.metrics.provenance import Provenance
from codeprior.shapes import Image


@dataclass(frozen=True, kw_only=True, slots=True)
class Measure:
    """One figure of an image."""

    name: str  # the column's heading
    unit: str = ""
    higher_is_better: bool
    look: Callable[[Image], Any]  # unit images to whatever is compared
    compare: Callable[[Any, Any], Tensor] | None  # restored, clean to b values; None: look gives the values itself
    record: Provenance
    undefined: str = "gave no number"  # why a value is NaN, for whoever reads the empty cell


def psnr_measure() -> Measure:
    """Gives the column PSNR: 8-bit RGB, no border cropped."""
    record = Provenance(network="none", note="mean squared error over 8-bit RGB, no border cropped")
    return Measure(name="PSNR", unit="dB", higher_is_better=True, look=_same, compare=psnr, record=record)


def ssim_measure() -> Measure:
    """Gives the column SSIM: 8-bit RGB, Gaussian 11×11 of σ 1.5 where it fits whole, mean over channels."""
    record = Provenance(network="none", note="8-bit RGB, Gaussian window 11 px, sigma 1.5, valid, mean of channels")
    return Measure(name="SSIM", higher_is_better=True, look=_same, compare=ssim, record=record)


def perceptual_measure(trunk: Trunk, *, heads: Sequence[Tensor] | None = None, name: str = "perceptual") -> Measure:
    """Gives a column of perceptual distances.

    Args:
        trunk: The feature network.
        heads: Channel weights; with LPIPS's own the column may be called LPIPS.
        name: The column's heading.
    """
    compare = partial(feature_distance, heads=heads)
    return Measure(name=name, higher_is_better=False, look=trunk, compare=compare, record=trunk.record)


def identity_measure(network: FaceEmbedding, *, name: str = "identity") -> Measure:
    """Gives a column of identity angles, radians.

    Args:
        network: The embedding.
        name: The column's heading.
    """
    return Measure(
        name=name, unit="rad", higher_is_better=False, look=network, compare=identity_angle, record=network.record,
        undefined="the network gave an embedding of zeros",
    )  # fmt: skip


def landmark_measure(network: Landmarks, *, name: str = "LMD") -> Measure:
    """Gives a column of landmark distances, pixels of 512 px faces.

    Args:
        network: Finds the landmarks.
        name: The column's heading.
    """
    return Measure(
        name=name, unit="px", higher_is_better=False, look=network, compare=landmark_distance, record=network.record
    )


def colour_measure() -> Measure:
    """Gives the column of colour errors: how far the mean colour has moved, 8-bit levels."""
    record = Provenance(network="none", note="8-bit levels between the images' mean colours, mean of channels")
    return Measure(
        name="colour", unit="levels", higher_is_better=False, look=_same, compare=colour_error, record=record
    )


def niqe_measure(statistics: Pristine | None = None) -> Measure:
    """Gives the column NIQE, which needs no truth.

    Args:
        statistics: Of pristine photographs; by default those inside the package.
    """
    statistics = pristine() if statistics is None else statistics
    look = partial(niqe, statistics=statistics)
    return Measure(
        name="NIQE",
        higher_is_better=False,
        look=look,
        compare=None,
        record=statistics.record,
        undefined="fewer than two blocks of the picture hold any detail",
    )


@torch.inference_mode()
def score(
    measures: Sequence[Measure], images: Mapping[str, Image], clean: Image | None = None
) -> dict[str, dict[str, Tensor]]:
    """Gives every measure of every method on one batch.

    Args:
        measures: The columns.
        images: Method to its images, unit, [0, 1], in the order of `clean`.
        clean: The truth, unit, [0, 1]; measures that compare are left out where there is none.

    Returns:
        Method to column to values, float64, one per image.
    """
    images = {method: unit_images("score", batch, what=f"images of {method}") for method, batch in images.items()}
    clean = None if clean is None else unit_images("score", clean, what="clean images")
    found: dict[str, dict[str, Tensor]] = {method: {} for method in images}
    for measure in measures:
        if measure.compare is None:
            for method, batch in images.items():
                found[method][measure.name] = torch.as_tensor(measure.look(batch)).double()
        elif clean is not None:
            truth = measure.look(clean)
            for method, batch in images.items():
                found[method][measure.name] = measure.compare(measure.look(batch), truth).double()
    return found


def _same(images: Image) -> Image:
    return images

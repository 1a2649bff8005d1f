"""LMD: how far the landmarks of a restored face have moved from those of the clean one.

Detectors are injectable. `DlibLandmarks` finds dlib's 68 points, whose weights ship inside a package;
`HeatmapLandmarks` reads the points of a network that gives heatmaps, such as the FAN of the papers.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
from einops import rearrange, reduce
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from codeprior.extras import needed
from codeprior.images import to_levels
from codeprior.metrics.provenance import Provenance, checked, checksum, distribution, packaged_file
from codeprior.shapes import Image

SIDE = 512
"""Landmarks are given in pixels of faces of this side, whatever the size of the images."""

_SHA256 = "fbdc2cb80eb9aa7a"
# mean box of dlib's own detector over London portraits aligned by the FFHQ template, at 512 px
_BOX = (101, 164, 403, 466)


class Landmarks(Protocol):
    """Finds the landmarks of aligned faces."""

    record: Provenance

    def __call__(self, faces: Image) -> Float[Tensor, "b p 2"]:
        """Gives x and y of each landmark, in pixels of 512 px faces, of FFHQ-aligned faces, unit, RGB."""
        ...


def landmark_distance(first: Float[Tensor, "b p 2"], second: Float[Tensor, "b p 2"]) -> Float[Tensor, " b"]:
    """Gives the mean distance between the landmarks of each pair of faces.

    Args:
        first: x and y of each landmark, pixels.
        second: Of the other faces, in the same order.

    Returns:
        Pixels, float64, one per face.

    Raises:
        ValueError: The shapes differ.
    """
    if first.shape != second.shape or first.ndim != 3 or first.shape[-1] != 2:
        raise ValueError(
            f"landmark_distance: expected two batches of landmarks b p 2 of one shape, got {tuple(first.shape)} and "
            f"{tuple(second.shape)}."
        )
    return reduce((first.double() - second.double()).norm(dim=-1), "b p -> b", "mean")


class DlibLandmarks:
    """Finds dlib's 68 landmarks, in a fixed box instead of a detected one, so that no face is missed.

    Args:
        weights: The `.dat` file; by default the one inside `face-recognition-models`.
        sha256: Beginning of the checksum that the file must have; empty accepts any.

    Raises:
        ImportError: dlib is not installed.
        WeightsMissing: The file or the package is not on this machine.
        ValueError: The file's checksum differs.

    Note:
        In a detected box the points lie elsewhere by 1.3 px, on average over 24 clean portraits at 512 px.
    """

    def __init__(self, weights: str | Path | None = None, *, sha256: str = _SHA256):
        dlib = needed("dlib", who="DlibLandmarks")
        path = weights or packaged_file(
            "face_recognition_models",
            "models/shape_predictor_68_face_landmarks.dat",
            install="face-recognition-models",
        )
        path = checked(path, sha256, who="DlibLandmarks")
        self._predict = dlib.shape_predictor(str(path))  # pyright: ignore[reportAttributeAccessIssue]
        self._box = dlib.rectangle(*_BOX)  # pyright: ignore[reportAttributeAccessIssue]
        self.record = Provenance(
            network="dlib 68 landmarks, fixed FFHQ box",
            weights=path.name,
            sha256=checksum(path),
            package=f"{distribution('dlib-bin')}, {distribution('face-recognition-models')}",
            licence="trained on iBUG 300-W: research use",
        )

    def __call__(self, faces: Image) -> Float[Tensor, "b 68 2"]:
        """Gives x and y of the landmarks, in pixels of 512 px faces.

        Args:
            faces: FFHQ-aligned crops, RGB, unit, [0, 1], square, any size.

        Raises:
            ValueError: The faces are not square.
        """
        levels = to_levels(_resized("DlibLandmarks", faces, SIDE))
        pictures = rearrange(levels, "b c h w -> b h w c").contiguous().cpu().numpy()
        found = [[(p.x, p.y) for p in self._predict(picture, self._box).parts()] for picture in pictures]
        return torch.tensor(found, dtype=torch.float32)


class HeatmapLandmarks:
    """Reads landmarks from the heatmaps of a network: the brightest place, moved a quarter towards its brighter side.

    Args:
        network: Images to heatmaps `b p h w`; for the papers' LMD facexlib's `awing_fan`, wrapped to return the last
            heatmaps without the boundary channel.
        record: Which network it is.
        size: Side of the images that the network takes, pixels.
    """

    def __init__(self, network: Callable[[Image], Tensor], record: Provenance, *, size: int = 256):
        self._network, self._size, self.record = network, size, record

    @torch.no_grad()
    def __call__(self, faces: Image) -> Float[Tensor, "b p 2"]:
        """Gives x and y of the landmarks, in pixels of 512 px faces.

        Args:
            faces: FFHQ-aligned crops, RGB, unit, [0, 1], square, any size.

        Raises:
            ValueError: The faces are not square.
        """
        heat = self._network(_resized("HeatmapLandmarks", faces, self._size)).float()  # b p h w
        height, width = heat.shape[-2:]
        place = rearrange(heat, "b p h w -> b p (h w)").argmax(-1)
        row, column = place // width, place % width
        batch = torch.arange(heat.shape[0], device=heat.device)[:, None]
        point = torch.arange(heat.shape[1], device=heat.device)

        def slope(rows: int, columns: int) -> Tensor:
            ahead = heat[batch, point, (row + rows).clamp(max=height - 1), (column + columns).clamp(max=width - 1)]
            behind = heat[batch, point, (row - rows).clamp(min=0), (column - columns).clamp(min=0)]
            return (ahead - behind).sign() / 4

        x = (column + slope(0, 1) + 0.5) * SIDE / width - 0.5
        y = (row + slope(1, 0) + 0.5) * SIDE / height - 0.5
        return torch.stack([x, y], dim=-1)


def _resized(who: str, faces: Image, side: int) -> Image:
    if faces.shape[-1] != faces.shape[-2]:
        raise ValueError(
            f"{who}: expected square FFHQ-aligned faces, got {faces.shape[-2]}×{faces.shape[-1]}; align them first."
        )
    if faces.shape[-1] == side:
        return faces.float()
    return F.interpolate(faces.float(), size=(side, side), mode="bilinear", antialias=True)

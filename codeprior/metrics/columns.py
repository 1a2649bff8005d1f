"""Columns by name: which of them this machine can make, and why the others are left out.

Weights that ship inside packages are used directly. Those that have to be downloaded are looked for in one folder,
under the names under which they are published. `official` gives the columns as the reference's scripts compute them.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from torch import nn

from codeprior.metrics import measures
from codeprior.metrics.arcface import ArcFace
from codeprior.metrics.dlib_face import DlibFace
from codeprior.metrics.efficientnet import EfficientNetLiteTrunk
from codeprior.metrics.landmarks import DlibLandmarks
from codeprior.metrics.measures import Measure
from codeprior.metrics.official import OfficialTrunk
from codeprior.metrics.perceptual import MobileNetTrunk, TorchvisionTrunk, lpips_heads
from codeprior.metrics.provenance import WeightsMissing

FILES = {
    "lpips": "vgg16-397923af.pth",
    "arcface": "arcface_resnet18.pth",
    "fid": "pt_inception-2015-12-05-6726825d.pth",
}
"""Names under which downloaded weights are looked for."""


class Columns(NamedTuple):
    """What `columns` gives.

    Attributes:
        measures: The columns, in the order asked for.
        left_out: Name of a column to the reason why it is not there.
    """

    measures: list[Measure]
    left_out: dict[str, str]


def column_names() -> tuple[str, ...]:
    """Gives the names of all columns, in the order of a table."""
    return tuple(_MAKERS)


def columns(
    names: Sequence[str] | None = None, *, weights: str | Path | None = None, official: bool = False
) -> Columns:
    """Gives the columns that this machine can make.

    Args:
        names: Some of `column_names()`, in any order; by default all but `niqe`.
        weights: Folder of downloaded weights: `vgg16-397923af.pth` for `lpips`, `arcface_resnet18.pth` for `arcface`.
        official: As the reference computes them: LPIPS on blue, green, red and twice, for [0, 1] and [-1, 1] images;
            ArcFace with the swapped grey weights.

    Returns:
        The columns, and the ones left out because their weights or packages are not on this machine.

    Raises:
        ValueError: A name is unknown.
        FileNotFoundError: A column that is asked for by name cannot be made.
    """
    asked = tuple(names) if names is not None else tuple(name for name in _MAKERS if name != "niqe")
    if unknown := [name for name in asked if name not in _MAKERS]:
        raise ValueError(f"columns: expected names of {', '.join(_MAKERS)}; got {', '.join(unknown)}.")
    made: list[Measure] = []
    left_out: dict[str, str] = {}
    for name in asked:
        try:
            made += _MAKERS[name](Path(weights) if weights else None, official)
        except (WeightsMissing, ImportError) as missing:
            if names is not None:
                raise WeightsMissing(f"columns: {name} cannot be made: {missing}") from missing
            left_out[name] = str(missing)
    return Columns(made, left_out)


def downloaded(name: str, folder: Path | None) -> Path:
    """Gives the path of weights that have to be downloaded.

    Args:
        name: One of `FILES`.
        folder: Where they are looked for.

    Raises:
        WeightsMissing: No folder is given, or it has no such file.
    """
    if folder is None or not (path := folder / FILES[name]).is_file():
        place = f"not in {folder}" if folder else "a download"
        raise WeightsMissing(f"{name}: {FILES[name]} is {place}; give the folder that holds it")
    return path


def _lpips(folder: Path | None, official: bool) -> list[Measure]:
    trunk, heads = TorchvisionTrunk(downloaded("lpips", folder)), lpips_heads()
    make: Callable[..., Measure] = partial(measures.perceptual_measure, heads=heads)
    if not official:
        return [make(trunk, name="LPIPS")]
    return [
        make(OfficialTrunk(trunk, signed=signed), name=f"LPIPS {written}")
        for signed, written in ((False, "[0, 1]"), (True, "[-1, 1]"))
    ]


def _arcface(folder: Path | None, official: bool) -> list[Measure]:
    network: nn.Module = ArcFace(downloaded("arcface", folder), mode="official" if official else "correct")
    return [measures.identity_measure(network, name="IDA")]  # pyright: ignore[reportArgumentType]


_MAKERS: dict[str, Callable[[Path | None, bool], list[Measure]]] = {
    "psnr": lambda folder, official: [measures.psnr_measure()],
    "ssim": lambda folder, official: [measures.ssim_measure()],
    "lpips": _lpips,
    "perceptual": lambda folder, official: [measures.perceptual_measure(MobileNetTrunk())],
    "perceptual-lite0": lambda folder, official: [
        measures.perceptual_measure(EfficientNetLiteTrunk(), name="perceptual, Lite0")
    ],
    "arcface": _arcface,
    "identity": lambda folder, official: [measures.identity_measure(DlibFace())],
    "lmd": lambda folder, official: [measures.landmark_measure(DlibLandmarks())],
    "colour": lambda folder, official: [measures.colour_measure()],
    "niqe": lambda folder, official: [measures.niqe_measure()],
}

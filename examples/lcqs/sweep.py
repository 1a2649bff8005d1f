r"""What the level does: quality and identity of test faces as it rises, and how far apart the qualities lie as styles.

    python -m codeprior.recipes.lcqs.sweep --weights restorer.safetensors --faces TEST --clean CLEAN --out OUT

OUT gets `sweep.json`, `sweep.md` and `sweep.png`. For each severity the faces are degraded as in training, restored at
each level and measured: without their truth by two figures that training does not use, and against it by dlib's
identity. `--clean` names other clean faces, which the kernel distance compares with.
"""

import argparse
import csv
import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from einops import rearrange
from PIL import Image as Pictures
from torch import Tensor
from torch.nn import functional as F

from codeprior import files
from codeprior.extras import needed
from codeprior.images import to_array, to_signed, to_unit
from codeprior.metrics import DlibFace, EfficientNetLiteTrunk, eight_bit, identity_angle, kid, niqe
from codeprior.shapes import Image
from codeprior.stages import Faces
from codeprior.training import Batch, open_images

from .model import LCQS
from .restore import load_model
from .settings import SEVERITIES

LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
"""Levels that are measured; the last one goes beyond what is trained."""

IDENTITY_BOUND = 0.1
"""How much further from the truth than at level 0 the identity of a face may be in the mean, radians."""

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


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status: 0 done, 2 bad input."""
    arguments = _parser().parse_args(argv)
    try:
        _run(arguments)
    except (ValueError, FileNotFoundError, ImportError) as error:
        sys.stderr.write(f"sweep: {files.printable(error)}\n")
        return 2
    return 0


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


def separability(high: Tensor, low: Tensor, groups: Sequence[str], *, folds: int = 5) -> list[float]:
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


def degraded_faces(levels: Tensor, preset: str | None, *, size: int, degradation_size: int) -> Image:
    """Gives faces as a network sees them, unit; the damage of each follows from its place.

    Args:
        levels: 8-bit faces.
        preset: Of the damage; None for none.
        size: Side of the network's faces, pixels.
        degradation_size: Side at which they are degraded, pixels.
    """
    numbers = torch.arange(len(levels))
    faces = Faces(size=size, degradation=preset, degradation_size=degradation_size)
    return to_unit(faces.degraded(Batch(levels, numbers + 1, numbers, torch.zeros(len(levels), dtype=torch.bool))))


@torch.no_grad()
def styles_of(encoder: torch.nn.Module, faces: Image) -> Tensor:
    """Gives the styles of unit faces."""
    return torch.cat([encoder(to_signed(part)) for part in faces.split(16)])


def _run(arguments: argparse.Namespace) -> None:
    model = load_model(arguments.weights).eval()
    taken, names = _pictures(arguments.faces, arguments.degradation_size, arguments.limit)
    others, _ = _pictures(arguments.clean, arguments.degradation_size, arguments.limit)
    sizes = {"size": model.size, "degradation_size": arguments.degradation_size}
    clean = degraded_faces(taken, None, **sizes)
    measuring = Measuring(degraded_faces(others, None, **sizes))
    truth, groups = measuring.identities(clean), _people(arguments.index, names)
    high = styles_of(model.high, clean)
    found: dict[str, Any] = {}
    strips = []
    for preset in arguments.preset or SEVERITIES:
        degraded = degraded_faces(taken, preset, **sizes)
        restored = _restored(model, degraded, arguments.levels)
        rows = [measuring.row(level, faces, truth) for level, faces in restored.items()]
        low = styles_of(model.low, degraded)
        found[preset] = {
            "input": measuring.row(-1, degraded, truth)._asdict(),
            "levels": [row._asdict() for row in rows],
            "falls": rises(rows),
            "identity_lost": identity_lost(rows),
            "separable": separability(high, low, groups),
            "separable_by_one_encoder": separability(styles_of(model.low, clean), low, groups),
        }
        strips += [[degraded[at], *(faces[at] for faces in restored.values()), clean[at]] for at in _shown(len(clean))]
    arguments.out.mkdir(parents=True, exist_ok=True)
    facts = {"faces": len(clean), "people": len(set(groups)), "reference": len(others), "bound": IDENTITY_BOUND}
    files.write(arguments.out / "sweep.json", json.dumps(facts | {"presets": found}, indent=2).encode())
    files.write(arguments.out / "sweep.md", tables(found).encode())
    _draw(arguments.out / "sweep.png", strips)


def tables(found: Mapping[str, Any]) -> str:
    """Gives what was found as Markdown.

    Args:
        found: By preset, as in `sweep.json`.
    """
    lines = ["| damage | level | kernel distance ↓ | NIQE at 192 px ↓ | identity, rad ↓ |", "|---|---|---|---|---|"]
    for preset, one in found.items():
        for row in (one["input"], *one["levels"]):
            level = "input" if row["level"] < 0 else f"{row['level']:g}"
            figures = f"{row['kernel']:.0f} | {row['naturalness']:.2f} | {row['identity']:.3f}"
            lines.append(f"| {preset} | {level} | {figures} |")
    lines += ["", "| damage | kernel distance falls | identity lost, rad | separable | by one encoder |",
              "|---|---|---|---|---|"]  # fmt: skip
    for preset, one in found.items():
        means = [f"{100 * np.mean(one[key]):.0f} %" for key in ("separable", "separable_by_one_encoder")]
        lines.append(
            f"| {preset} | {'yes' if one['falls'] else 'no'} | {one['identity_lost']:+.3f} | {' | '.join(means)} |"
        )
    return "\n".join(lines) + "\n"


def _pictures(folders: Sequence[Path], size: int, limit: int) -> tuple[Tensor, list[str]]:
    source = open_images(folders, size=size, cached=False)
    numbers = np.linspace(0, len(source) - 1, min(limit, len(source))).round().astype(int).tolist()
    paths = [str(path) for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    names = [Path(paths[number]).stem if len(paths) == len(source) else str(number) for number in numbers]
    return torch.stack([source.image(number) for number in numbers]), names


def _people(index: Path | None, names: Sequence[str]) -> list[str]:
    if index is None:
        return list(names)
    with index.open(newline="", encoding="utf-8") as lines:
        known = {row["id"]: row["identity"] for row in csv.DictReader(lines)}
    return [known.get(name, name) for name in names]


@torch.no_grad()
def _restored(model: LCQS, degraded: Image, levels: Sequence[float]) -> dict[float, Image]:
    """Gives the faces at each level; what costs most, the styles and the damage, is found once."""
    signed = to_signed(degraded)
    start, shift = (
        styles_of(model.low, degraded),
        torch.cat([model.shift(model.damage(part)) for part in signed.split(16)]),
    )
    made = {level: (start + level * shift).split(16) for level in levels}
    return {level: torch.cat([to_unit(model.generator(part)) for part in parts]) for level, parts in made.items()}


def _shown(count: int) -> list[int]:
    return sorted({round(place * (count - 1)) for place in (0.1, 0.5, 0.9)})


def _draw(path: Path, strips: Sequence[Sequence[Tensor]]) -> None:
    """Draws a row for each face: degraded, each level, clean."""
    image = torch.stack([torch.stack(list(strip)) for strip in strips])
    pixels = to_array(rearrange(image, "r c k H W -> k (r H) (c W)"))
    encoded = BytesIO()
    Pictures.fromarray(pixels).resize((2 * pixels.shape[1], 2 * pixels.shape[0]), Pictures.Resampling.NEAREST).save(
        encoded, "PNG"
    )
    files.write(path, encoded.getvalue())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m codeprior.recipes.lcqs.sweep", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--weights", type=Path, required=True, help="of an LCQS")
    parser.add_argument("--faces", type=Path, nargs="+", required=True, help="folders of test faces")
    parser.add_argument("--clean", type=Path, nargs="+", required=True, help="folders of clean faces of other people")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--index", type=Path, metavar="CSV", help="columns id, identity: who is on each test face")
    parser.add_argument("--preset", action="append", help="damage, repeatable (the three of LCQS)")
    parser.add_argument("--levels", type=float, nargs="+", default=list(LEVELS), help="ascending, the first one 0")
    parser.add_argument("--limit", type=int, default=100, help="faces of each kind, at most (100)")
    parser.add_argument("--degradation-size", type=int, default=256, help="side at which faces are degraded (256)")
    return parser


if __name__ == "__main__":
    sys.exit(main())

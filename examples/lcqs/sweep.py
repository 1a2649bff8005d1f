r"""What the level does: quality and identity of test faces as it rises, and how far apart the qualities lie as styles.

    python -m codeprior.recipes.lcqs.sweep --weights restorer.safetensors --faces TEST --clean CLEAN --out OUT

OUT gets `sweep.json`, `sweep.md` and `sweep.png`; the tables are printed too. For each severity the faces are degraded
as in training, restored at each level and measured: without their truth by two figures that training does not use, and
against it by dlib's identity. `--clean` names other clean faces, which the kernel distance compares with.
"""

import argparse
import csv
import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from PIL import Image as Pictures
from torch import Tensor

from codeprior import files
from codeprior.images import to_array, to_signed, to_unit
from codeprior.shapes import Image
from codeprior.stages import Faces
from codeprior.training import Batch, open_images

from . import FAMILY
from .judging import FOLDS, Measuring, identity_lost, rises, separability
from .model import LCQS
from .restore import load_model
from .settings import SEVERITIES

LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
"""Levels that are measured; the last one goes beyond what is trained."""

IDENTITY_BOUND = 0.1
"""How much further from the truth than at level 0 the identity of a face may be in the mean, radians."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status: 0 done, 2 bad input."""
    arguments = _parser().parse_args(argv)
    try:
        _run(arguments)
    except (ValueError, FileNotFoundError, ImportError) as error:
        sys.stderr.write(f"sweep: {files.printable(error)}\n")
        return 2
    return 0


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
    _check_levels(arguments.levels)
    model = load_model(arguments.weights).eval()
    taken, names = _pictures(arguments.faces, arguments.degradation_size, arguments.limit)
    groups = _people(arguments.index, names)
    if (people := len(set(groups))) < FOLDS:
        raise ValueError(
            f"expected test faces of {FOLDS} people or more, because separability is measured by {FOLDS} folds, got "
            f"{people}; name more --faces, or raise --limit."
        )
    others, _ = _pictures(arguments.clean, arguments.degradation_size, arguments.limit)
    sizes = {"size": model.size, "degradation_size": arguments.degradation_size}
    clean = degraded_faces(taken, None, **sizes)
    measuring = Measuring(degraded_faces(others, None, **sizes))
    truth = measuring.identities(clean)
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
    sys.stdout.write(tables(found))


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


def _check_levels(levels: Sequence[float]) -> None:
    option = FAMILY.options["level"]
    for level in levels:
        option.check("level", level)
    if levels[0] != 0 or any(after <= before for before, after in itertools.pairwise(levels)):
        raise ValueError(
            f"--levels: expected them ascending, the first one 0, which the others are compared with; got "
            f"{' '.join(f'{level:g}' for level in levels)}."
        )


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

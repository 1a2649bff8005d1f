"""The command that makes damaged faces and trains the estimator on them, on one core in about twenty minutes.

`python -m codeprior.recipes.damage.train --portraits PORTRAITS --out runs/damage`

Faces are made in parts that are kept in `OUT/SPLIT-NNNN.safetensors`: started again, the command makes those that are
missing. Every face follows from the seed and its number. The network is then fitted twice. The first fit sees only
faces that were reduced so much from their file that the file's sharpness does not matter; it says how sharp each file
is. The second sees all faces, their limits lowered to that. The weights are those of the pass with the least loss on
the faces of the val split.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file, save
from torch import Tensor

import codeprior
from codeprior.estimators import Damage, DamageEstimator, face_statistics
from codeprior.estimators.damage import from_coordinates, to_coordinates
from codeprior.files import write
from codeprior.images import from_levels
from codeprior.photos import read as read_photo

from .faces import Portraits, make_face, read_portraits
from .fit import Rows, calibrate, fit

FACES = {"train": 9000, "val": 500, "test": 1000}
"""How many faces are made of each split."""

_PART = 250
_SEEDS = {"train": 1, "val": 2, "test": 3}
LICENCE = "CC BY 4.0"
ATTRIBUTION = (
    "Trained on portraits of U.S. government works and of Entrepreneurs d'intérêt général (Licence Ouverte 2.0), "
    "rOpenSci (CC BY 4.0), MetaDocencia (CC BY 4.0) and Code for Germany (CC BY 4.0)"
)


class Set(NamedTuple):
    """Made faces of a split.

    Attributes:
        rows: Statistics and truth.
        numbers: Which portrait each is.
        kinds: What was done to each, an index into `KINDS`.
        scales: Pixels of each face for one pixel of its file.
        trusted: Whether the limit is exact: the file's own sharpness does not matter.
    """

    rows: Rows
    numbers: Tensor
    kinds: Tensor
    scales: Tensor
    trusted: Tensor


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status: 0 done, 2 bad input."""
    parser = argparse.ArgumentParser(prog="damage.train", description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--portraits", type=Path, required=True, help="folder with index.csv")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--faces", type=int, default=FACES["train"], help="damaged faces of the train split")
    parser.add_argument("--passes", type=int, default=60, help="passes over them")
    parser.add_argument("--seed", type=int, default=23)
    parser.add_argument("--only", choices=FACES, help="only make the faces of this split")
    parsed = parser.parse_args(argv)
    torch.set_num_threads(1)
    try:
        counts = {**FACES, "train": parsed.faces}
        for split in [parsed.only] if parsed.only else FACES:
            make(parsed.portraits, parsed.out, split, counts[split], seed=parsed.seed)
        if parsed.only is None:
            train(parsed.portraits, parsed.out, faces=parsed.faces, passes=parsed.passes, seed=parsed.seed)
    except (ValueError, FileNotFoundError) as error:
        print(f"damage.train: {error}", file=sys.stderr)
        return 2
    return 0


def make(portraits: Path, out: Path, split: str, count: int, *, seed: int = 23) -> None:
    """Makes the parts of a split that are missing.

    Args:
        portraits: Folder with `index.csv`.
        out: Where the parts go.
        split: `train`, `val` or `test`.
        count: How many faces there are to be; rounded up to whole parts.
        seed: Together with the number of a face, it decides everything about it.
    """
    out.mkdir(parents=True, exist_ok=True)
    there = read_portraits(portraits, split)
    for part in range(-(-count // _PART)):
        target = out / f"{split}-{part:04d}.safetensors"
        if target.exists():
            continue
        tensors = _part(there, [_key(seed, split, part * _PART + index) for index in range(_PART)])
        write(target, save(tensors))
        print(f"{split}: {(part + 1) * _PART} faces", flush=True)


def read(out: Path, split: str, count: int | None = None) -> Set:
    """Reads the faces that `make` made.

    Args:
        out: Where the parts lie.
        split: `train`, `val` or `test`.
        count: How many, from the first; None takes all.

    Raises:
        FileNotFoundError: There are none.
    """
    files = sorted(out.glob(f"{split}-[0-9]*.safetensors"))[: None if count is None else -(-count // _PART)]
    if not files:
        raise FileNotFoundError(f"damage: {out} holds no made faces of the split {split!r}; make them first.")
    parts = [load_file(file) for file in files]
    all_of = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    rows = Rows(all_of["statistics"], to_coordinates(Damage(*all_of["truth"].unbind(1))))
    return Set(rows, all_of["number"], all_of["kind"], all_of["scale"], all_of["trusted"])


def train(portraits: Path, out: Path, *, faces: int, passes: int = 60, seed: int = 23) -> DamageEstimator:
    """Fits the network twice and writes `OUT/damage.safetensors`.

    Args:
        portraits: Folder with `index.csv`.
        out: Where the made faces lie and the weights go.
        faces: How many of the train split.
        passes: Passes over them.
        seed: Of initial weights and order.
    """
    sets = {"train": read(out, "train", faces), "val": read(out, "val")}
    exact = {name: _chosen(part.rows, part.trusted) for name, part in sets.items()}
    first = fit(exact["train"], exact["val"], passes=passes, seed=seed)
    whole = {}
    for split, part in sets.items():
        whole[split] = lowered(
            part, own_limits(first, read_portraits(portraits, split), out / f"{split}-files.safetensors")
        )
    estimator = fit(whole["train"], whole["val"], passes=passes, seed=seed, name="second fit")
    calibrate(estimator, exact["val"])
    codeprior.save(
        out / "damage.safetensors",
        estimator,
        metadata={"licence": LICENCE, "attribution": ATTRIBUTION, "recipe": f"codeprior.recipes.damage, seed {seed}"},
        dtype=torch.float16,
    )
    return estimator


def own_limits(estimator: DamageEstimator, portraits: Portraits, kept: Path) -> Tensor:
    """Gives how sharp the files are themselves: the limit of each as it lies on disk, cycles per pixel of the file.

    Args:
        estimator: Fitted on faces whose file did not matter.
        portraits: The files.
        kept: Where their statistics are kept for another fit.
    """
    if not kept.exists():
        rows = [face_statistics(from_levels(read_photo(file).pixels)) for file in portraits.files]
        write(kept, save({"statistics": torch.stack(rows)}))
    with torch.no_grad():
        limits = estimator(load_file(kept)["statistics"])[:, -1, 1].exp2()
    return limits.minimum(0.5 / torch.tensor(portraits.enlargement).clamp_min(1))


def lowered(part: Set, own: Tensor) -> Rows:
    """Gives the rows with each limit lowered to what the file had, where the file matters.

    Args:
        part: Made faces.
        own: What `own_limits` gave for the files of their split.
    """
    truth = from_coordinates(part.rows.truth)
    ceiling = (own[part.numbers] / part.scales).clamp_max(0.5)
    limit = torch.where(part.trusted, truth.limit, torch.minimum(truth.limit, ceiling))
    return Rows(part.rows.statistics, to_coordinates(truth._replace(limit=limit)))


def _part(portraits: Portraits, keys: Sequence[int]) -> dict[str, Tensor]:
    made = [make_face(portraits, key) for key in keys]
    return {
        "statistics": torch.stack([face_statistics(one.face[0]) for one in made]),
        "truth": torch.stack([one.truth for one in made]),
        "number": torch.tensor([one.number for one in made]),
        "kind": torch.tensor([one.kind for one in made]),
        "scale": torch.tensor([one.scale for one in made]),
        "trusted": torch.tensor([one.trusted for one in made]),
    }


def _key(seed: int, split: str, number: int) -> int:
    return (seed * 16 + _SEEDS[split]) * 2**32 + number


def _chosen(rows: Rows, which: Tensor) -> Rows:
    return Rows(rows.statistics[which], rows.truth[which])


if __name__ == "__main__":
    raise SystemExit(main())

r"""The paper's ablation: models on the same degraded faces, in a table and a picture.

`python -m codeprior.recipes.gpen.ablate --faces TEST --out runs/ablation \
    --model "GPEN=runs/finetuning_small" --model "GPEN=runs/second_seed" --model "without fine-tuning=runs/without"`

Several folders of one name are seeds of it: the table has their mean, and the standard deviation between them.
"""

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from codeprior.evaluation.validation import FixedFaces
from codeprior.files import write
from codeprior.images import to_signed, to_unit
from codeprior.stages import Faces
from codeprior.training import Batch, open_images
from codeprior.training.watch import save_grid

from .model import GPEN
from .restore import load_model
from .settings import FineTuningSettings, finetuning_small

COLUMNS = ("psnr", "ssim", "perceptual", "identity")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status: 0 done, 2 bad input."""
    text = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m codeprior.recipes.gpen.ablate", description=text)
    parser.add_argument("--faces", type=Path, nargs="+", required=True, help="folders of clean faces")
    parser.add_argument(
        "--model", action="append", required=True, metavar="NAME=FOLDER", help="a run, or its weights; repeatable"
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="folder of the table and the picture")
    parser.add_argument("--limit", type=int, default=200, help="at most so many faces (200)")
    arguments = parser.parse_args(argv)
    try:
        if arguments.limit < 1:
            raise ValueError(f"--limit: expected 1 face or more, got {arguments.limit}.")
        names = [_named(word) for word in arguments.model]
        models: dict[str, list[GPEN]] = {}
        for name, folder in names:
            models.setdefault(name, []).append(load_model(_weights(folder)))
        clean, degraded = test_faces(finetuning_small(), arguments.faces, limit=arguments.limit)
        figures = measured(models, clean, degraded)
    except (ValueError, FileNotFoundError) as error:
        sys.stderr.write(f"ablate: {error}\n")
        return 2
    arguments.out.mkdir(parents=True, exist_ok=True)
    table = as_table(figures)
    write(arguments.out / "table.md", table.encode(), overwrite=True)
    few = 6
    restored = {name: _restored(group[0], degraded[:few]) for name, group in models.items()}
    save_grid(arguments.out / "faces.png", {"degraded": degraded[:few], **restored, "clean": clean[:few]})
    sys.stdout.write(table)
    return 0


def test_faces(recipe: FineTuningSettings, folders: Sequence[Path], *, limit: int) -> tuple[Tensor, Tensor]:
    """Gives clean faces and their degraded versions, unit, the same at every call.

    Args:
        recipe: Says how they are degraded, and the sizes.
        folders: Of clean faces.
        limit: At most so many, from the first.
    """
    images = open_images(folders, size=recipe.degradation_size, cached=False)
    faces = Faces.of(recipe, size=recipe.network.size)
    parts = []
    for start in range(0, min(limit, len(images)), 20):
        numbers = torch.arange(start, min(start + 20, limit, len(images)))
        levels = torch.stack([images.image(number) for number in numbers.tolist()])
        # keys that no sample of training has: those are drawn from 63 bits
        parts.append(faces(Batch(levels, numbers + 1, numbers, torch.zeros(len(numbers), dtype=torch.bool))))
    clean, degraded = (to_unit(torch.cat(side)).clamp(0, 1) for side in zip(*parts, strict=True))
    return clean, degraded


def measured(
    models: Mapping[str, Sequence[GPEN]], clean: Tensor, degraded: Tensor, *, columns: Sequence[str] = COLUMNS
) -> dict[str, list[dict[str, float]]]:
    """Gives the means of each column for the degraded faces, and for every model of every name.

    Args:
        models: Seeds by name.
        clean: `b 3 S S`, unit.
        degraded: The same faces.
        columns: Names of `codeprior.metrics.column_names()`.
    """
    judge = FixedFaces(clean, columns=tuple(columns))
    found = {"degraded": [judge.figures(degraded)]}
    for name, group in models.items():
        found[name] = [judge.figures(_restored(model, degraded)) for model in group]
    return found


def as_table(figures: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Gives a Markdown table: a row per name, means over its seeds, ± their standard deviation.

    Args:
        figures: Of each seed, by name.
    """
    columns = list(next(iter(figures.values()))[0])
    lines = [f"| | seeds | {' | '.join(columns)} |", f"|---|---|{'---|' * len(columns)}"]
    for name, seeds in figures.items():
        cells = []
        for column in columns:
            values = [seed[column] for seed in seeds]
            spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
            cells.append(f"{statistics.fmean(values):.3f}{spread}")
        lines.append(f"| {name} | {len(seeds)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _restored(model: GPEN, degraded: Tensor) -> Tensor:
    parts = [model.eval().restore(to_signed(part)) for part in degraded.split(20)]
    answer = torch.cat(parts).clamp(-1, 1)
    return F.interpolate(to_unit(answer), degraded.shape[-2:], mode="area")


def _named(word: str) -> tuple[str, Path]:
    name, sign, folder = word.partition("=")
    if not (name and sign and folder):
        raise ValueError(f"expected NAME=FOLDER, got {word!r}.")
    return name, Path(folder)


def _weights(path: Path) -> Path:
    return path if path.is_file() else path / "restorer.safetensors"


if __name__ == "__main__":
    sys.exit(main())

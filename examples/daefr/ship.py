"""Makes the embedded weights from the folders of a small run: half precision, the licence in the header, the curves.

`python -m codeprior.recipes.daefr.ship runs --out examples/daefr/weights`

`runs` holds the folders of the stages, as `train small` writes them.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from codeprior import files, weights
from codeprior.prior import VQGAN
from codeprior.training.watch import Log

from .model import DAEFR

STAGES = ("hq_codebook_small", "lq_codebook_small", "association_small", "restoration_small", "fidelity_small")
FACTS: Mapping[str, str] = {
    "licence": "CC-BY-4.0, with the attributions of the card; not for identification",
    "card": "examples/daefr/weights/README.md",
    "data": "train split of the portraits: permissively licensed photographs of real people",
    "degradation": "presets at 512 px, then resized by area to 128 px",
    "edition": "2",
}
FILES = {"daefr_small": ("fidelity_small", "restorer", DAEFR), "hq_vqgan_small": ("hq_codebook_small", "vqgan", VQGAN)}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status, 2 where a stage's weights are missing."""
    parser = argparse.ArgumentParser(
        prog="python -m codeprior.recipes.daefr.ship", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("runs", type=Path, help="folder of the stages' folders")
    parser.add_argument("--out", type=Path, required=True, help="folder of the weights")
    arguments = parser.parse_args(argv)
    try:
        for path in ship(arguments.runs, arguments.out):
            print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    except (ValueError, FileNotFoundError) as error:
        print(f"ship: {error}", file=sys.stderr)
        return 2
    return 0


def ship(runs: Path, out: Path) -> list[Path]:
    """Writes the embedded weights and the curves of their training.

    Args:
        runs: Holds the folders of the stages.
        out: Where the files go; those of the same names are replaced.

    Returns:
        The paths written.

    Raises:
        FileNotFoundError: The weights of a stage are not there.
        ValueError: A file holds another model.
    """
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, (stage, part, kind) in FILES.items():
        source = runs / stage / f"{part}.safetensors"
        module = weights.load(source)
        # a class of a recipe has two names of its package, and is not the same class under both
        if weights.read_metadata(source)["codeprior.class"] != kind.__name__:
            raise ValueError(f"{source} holds a {type(module).__name__}; expected a {kind.__name__}.")
        recipe = ", ".join(STAGES[: STAGES.index(stage) + 1])
        weights.save(out / f"{name}.safetensors", module, metadata={**FACTS, "recipe": recipe}, dtype=torch.float16)
        written.append(out / f"{name}.safetensors")
    path = out / "curves.json"
    files.write(path, json.dumps(curves(runs), separators=(",", ":")) + "\n", overwrite=True)
    return [*written, path]


def curves(runs: Path) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Gives, for each stage's folder that is there, each logged figure as its steps and its values."""
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for folder in sorted(runs.iterdir()):
        for line in Log(folder / "log.jsonl").read():
            for name, value in line.items():
                if (
                    name in {"step", "elapsed", "steps_per_second"}
                    or not isinstance(value, (int, float))
                    or isinstance(value, bool)
                ):
                    continue
                curve = found.setdefault(folder.name, {}).setdefault(name, {"step": [], "value": []})
                curve["step"].append(line["step"])
                curve["value"].append(float(f"{value:.5g}"))
    return found


if __name__ == "__main__":
    sys.exit(main())

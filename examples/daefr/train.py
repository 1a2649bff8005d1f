"""The command that runs any stage of DAEFR, or the small recipe from end to end.

`python -m examples.daefr.train hq_codebook_small --faces FACES --out runs/hq --perceptual-weights FILE`
`python -m examples.daefr.train small --faces FACES --out runs --perceptual-weights FILE`

Each stage is a folder: its log, previews, checkpoints, and the weights that the next stage starts from. Started again on
the same folder, it goes on.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from codeprior import weights
from codeprior.losses import PerceptualLoss
from codeprior.training import ImageFolder, Stage, Stream, train

from .association_stage import AssociationStage
from .codebook_stage import CodebookStage
from .recipes import RECIPES, AssociationRecipe, CodebookRecipe, RestorationRecipe
from .restoration_stage import RestorationStage

_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
_SMALL = ("hq_codebook_small", "lq_codebook_small", "association_small", "restoration_small")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status."""
    arguments = _parser().parse_args(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    names = _SMALL if arguments.recipe == "small" else (arguments.recipe,)
    for name in names:
        out = arguments.out / name if arguments.recipe == "small" else arguments.out
        if not run(name, arguments, out):
            return 0
    return 0


def run(name: str, arguments: argparse.Namespace, out: Path) -> bool:
    """Runs one stage into its folder; returns whether it is complete."""
    recipe = RECIPES[name]()
    changes = {key: getattr(arguments, key) for key in ("steps", "batch", "seed") if getattr(arguments, key) is not None}
    recipe = replace(recipe, **changes)
    images = ImageFolder(_files(arguments.faces), size=recipe.degradation_size)
    stage = build(recipe, arguments, out)
    stream = Stream(images, batch=recipe.batch, seed=recipe.seed, workers=arguments.workers)
    finished = train(
        stage, stream, folder=out, steps=recipe.steps, minutes=arguments.minutes, save_every=arguments.save_every,
        log_every=arguments.log_every, preview_every=arguments.preview_every, device=arguments.device, name=name,
        keep=2,
    )  # fmt: skip
    for part, module in stage.results.items():
        weights.save(out / f"{part}.safetensors", module, metadata={"recipe": name, "steps": str(finished.step)})
    return finished.complete


def build(recipe: CodebookRecipe | RestorationRecipe, arguments: argparse.Namespace, out: Path):
    """Gives the stage of a recipe, started from the weights of the stages before it."""
    hq, lq, associated = (
        getattr(arguments, key) or out.parent / default
        for key, default in (
            ("hq", "hq_codebook_small"), ("lq", "lq_codebook_small"), ("associated", "association_small"),
        )
    )  # fmt: skip
    if isinstance(recipe, RestorationRecipe):
        teacher = _result(hq, "vqgan")
        if recipe.branches == "single":
            return RestorationStage(recipe, teacher=teacher, hq=_result(hq, "vqgan"), device=arguments.device)
        return RestorationStage(
            recipe, teacher=teacher, hq=_result(associated, "hq_vqgan"), lq=_result(associated, "lq_vqgan"),
            device=arguments.device,
        )  # fmt: skip
    perceptual = PerceptualLoss(recipe.perceptual, weights=arguments.perceptual_weights)
    if isinstance(recipe, AssociationRecipe):
        return AssociationStage(
            recipe, hq=_result(hq, "vqgan"), lq=_result(lq, "vqgan"), perceptual=perceptual, device=arguments.device
        )
    return CodebookStage(recipe, perceptual=perceptual, device=arguments.device)


def _result(folder: Path, part: str):
    path = folder / f"{part}.safetensors"
    if not path.exists():
        raise SystemExit(f"train: {path} is missing; run the stage before this one, or name its folder.")
    return weights.load(path)


def _files(folders: Sequence[Path]) -> list[Path]:
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.suffix.lower() in _SUFFIXES]
    if not files:
        raise SystemExit(f"train: no pictures in {', '.join(map(str, folders))}; --faces takes folders of square faces.")
    return files


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m examples.daefr.train", description=__doc__.split("\n")[0])
    parser.add_argument("recipe", choices=["small", *RECIPES], help="a stage, or small: all four small stages in turn")
    parser.add_argument("--faces", type=Path, nargs="+", required=True, help="folders of aligned square faces")
    parser.add_argument("--out", type=Path, required=True, help="the run's folder")
    parser.add_argument("--hq", type=Path, help="folder of stage 1a")
    parser.add_argument("--lq", type=Path, help="folder of stage 1b")
    parser.add_argument("--associated", type=Path, help="folder of stage 2")
    parser.add_argument("--perceptual-weights", help="weights file of the perceptual network")
    parser.add_argument("--steps", type=int, help="instead of the recipe's")
    parser.add_argument("--batch", type=int, help="instead of the recipe's, over all ranks")
    parser.add_argument("--seed", type=int, help="instead of the recipe's")
    parser.add_argument("--minutes", type=float, help="stop cleanly after so long; the next call goes on")
    parser.add_argument("--save-every", type=int, default=500)
    parser.add_argument("--log-every", type=int, default=25)
    parser.add_argument("--preview-every", type=int, default=500)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="of the CPU; 0 leaves torch's choice")
    parser.add_argument("--workers", type=int, default=0, help="loader processes")
    return parser


if __name__ == "__main__":
    sys.exit(main())

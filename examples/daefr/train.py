r"""The command that runs any stage of DAEFR, or the small or medium recipe from end to end.

`python -m codeprior.recipes.daefr.train small --faces FACES --out runs`
`torchrun --nproc-per-node=8 -m codeprior.recipes.daefr.train hq_codebook --faces FFHQ --out runs/hq_codebook \
    --perceptual-weights VGG`

Each stage is a folder: its log, previews, checkpoints, and the weights that the next stage starts from. Started again
on the same folder, it goes on.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codeprior import distributed
from codeprior.discriminators import PatchGAN
from codeprior.files import printable
from codeprior.prior import VQGAN
from codeprior.stages import use_cached_codes
from codeprior.stages.earlier import load_part, perceptual_loss
from codeprior.stages.training_command import TrainingCommand
from codeprior.training import TorchEngine

from .association_stage import AssociationStage
from .codebook_stage import CodebookStage
from .fidelity_stage import FidelityStage
from .model import DAEFR, SingleEncoder
from .restoration_stage import RestorationStage
from .settings import (
    MEDIUM,
    PRESETS,
    RECIPES,
    SMALL,
    AssociationRecipe,
    CodebookRecipe,
    FidelityRecipe,
    RestorationRecipe,
    medium_network,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status: 0 done, 75 out of time and ready to go on, 2 bad input."""
    return command().main(argv)


def command() -> TrainingCommand:
    """Gives DAEFR's training command."""
    return TrainingCommand(
        module="codeprior.recipes.daefr.train", text=(__doc__ or "").split("\n")[0], recipes=RECIPES, build=build,
        options=_options, full_size=_full_size, presets=PRESETS, chains={"small": SMALL, "medium": MEDIUM},
        prepared=_prepared,
    )  # fmt: skip


def build(
    recipe: CodebookRecipe | RestorationRecipe | FidelityRecipe,
    arguments: argparse.Namespace,
    runs: Path,
    engine: TorchEngine,
):
    """Gives the stage of a recipe, started from the weights of the stages before it.

    Args:
        recipe: The configuration.
        arguments: Of the command; `hq`, `lq` and `associated` name the folders of earlier stages.
        runs: Where those lie unless they are named.
        engine: What distributes.

    Raises:
        ValueError: Weights of an earlier stage, or of the perceptual network, are not there.
    """
    kind = "" if _full_size(recipe) else "_medium" if recipe.network == medium_network() else "_small"
    hq = arguments.hq or runs / f"hq_codebook{kind}"
    if isinstance(recipe, RestorationRecipe):
        teacher = _vqgan(hq)
        if recipe.branches == "single":
            return RestorationStage(recipe, teacher=teacher, hq=_vqgan(hq), engine=engine)
        associated = arguments.associated or runs / f"association{kind}"
        return RestorationStage(
            recipe, teacher=teacher, hq=_vqgan(associated, "hq_vqgan"), lq=_vqgan(associated, "lq_vqgan"),
            engine=engine,
        )  # fmt: skip
    perceptual = perceptual_loss(recipe.perceptual, arguments.perceptual_weights)
    if isinstance(recipe, FidelityRecipe):
        before = "fidelity" if recipe.decoder == "trained" else "restoration"
        model = load_part(
            (arguments.restoration or runs / f"{before}{kind}") / "restorer.safetensors", DAEFR, SingleEncoder
        )
        return FidelityStage(recipe, model=model, perceptual=perceptual, engine=engine)
    if isinstance(recipe, AssociationRecipe):
        lq = arguments.lq or runs / f"lq_codebook{kind}"
        return AssociationStage(
            recipe, hq=_vqgan(hq), lq=_vqgan(lq), perceptual=perceptual,
            discriminators=_discriminators({"hq": hq, "lq": lq}), engine=engine,
        )  # fmt: skip
    start = None
    if arguments.start is not None or recipe.begins == "hq":
        start = load_part(arguments.start or hq / "vqgan.safetensors", VQGAN)
    return CodebookStage(recipe, perceptual=perceptual, start=start, engine=engine)


def _vqgan(folder: Path, part: str = "vqgan") -> VQGAN:
    return load_part(folder / f"{part}.safetensors", VQGAN)


def _discriminators(folders: Mapping[str, Path]) -> dict[str, PatchGAN]:
    found = {}
    for side, folder in folders.items():
        path = folder / "discriminator.safetensors"
        if path.exists():
            found[side] = load_part(path, PatchGAN)
        elif distributed.rank() == 0:
            said = f"no {printable(path)}, as in folders of older versions; that discriminator begins anew"
            print(f"train: {said}", file=sys.stderr)
    return found


def _prepared(stage: Any, arguments: argparse.Namespace, images: Any) -> None:
    if arguments.code_cache and isinstance(stage, RestorationStage):
        use_cached_codes(stage, arguments.code_cache, images)


def _full_size(recipe: Any) -> bool:
    return recipe.network == RECIPES["hq_codebook"]().network


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--hq", type=Path, help="folder of stage 1a; without it, hq_codebook beside --out")
    parser.add_argument("--lq", type=Path, help="folder of stage 1b; without it, lq_codebook beside --out")
    parser.add_argument("--associated", type=Path, help="folder of stage 2; without it, association beside --out")
    parser.add_argument("--restoration", type=Path, help="folder of stage 3, or 3b; without it, the one beside --out")
    parser.add_argument("--start", type=Path, metavar="FILE", help="stages 1: weights of a VQGAN to go on from")
    parser.add_argument("--code-cache", type=Path, help="stage 3: file of target codes, made where it is missing")


if __name__ == "__main__":
    sys.exit(main())

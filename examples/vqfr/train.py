"""The command that runs any stage of VQFR, of either version.

`python -m codeprior.recipes.vqfr.train prior_small --faces FACES --out runs/prior_small`
`python -m codeprior.recipes.vqfr.train restoration_small --faces FACES --out runs/restoration_small`

Each stage is a folder: its log, previews, checkpoints, and the weights that the next stage starts from. Started again
on the same folder, it goes on.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codeprior.prior import VQGAN
from codeprior.stages import VQGANStage
from codeprior.stages.earlier import earlier, load_part, perceptual_loss
from codeprior.stages.training_command import TrainingCommand
from codeprior.training import TorchEngine

from .joint_restoration_stage import JointRestorationStage
from .model import vqgan
from .prior_stage import PriorStage
from .restoration_stage import RestorationStage
from .settings import SETTINGS, JointSettings, Network, PriorSettings, RestorationSettings


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status: 0 done, 75 out of time and ready to go on, 2 bad input."""
    return command().main(argv)


def command() -> TrainingCommand:
    """Gives VQFR's training command."""
    return TrainingCommand(
        module="codeprior.recipes.vqfr.train", text=(__doc__ or "").split("\n")[0], recipes=SETTINGS, build=build,
        options=_options, full_size=_full_size, 
        chains={
            "small": ("prior_small", "restoration_small"), "small_v1": ("prior_v1_small", "restoration_v1_small"),
        },
    )  # fmt: skip


def build(
    recipe: PriorSettings | RestorationSettings | JointSettings,
    arguments: argparse.Namespace,
    runs: Path,
    engine: TorchEngine,
) -> VQGANStage | PriorStage | RestorationStage | JointRestorationStage:
    """Gives the stage of these settings, started from the weights of the stage before it.

    Args:
        recipe: The configuration.
        arguments: Of the command; `prior` names the folder of the first stage.
        runs: Where that lies unless it is named.
        engine: What distributes.

    Raises:
        ValueError: Weights of the first stage, or of the perceptual network, are not there.
    """
    perceptual = perceptual_loss(recipe.perceptual, arguments.perceptual_weights)
    if isinstance(recipe, PriorSettings):
        model = vqgan(recipe.network, moving_average=recipe.codebook == "moving_average")
        if recipe.discriminator == "patches":
            return VQGANStage(recipe, model=model, size=recipe.network.size, perceptual=perceptual, engine=engine)
        return PriorStage(recipe, model=model, perceptual=perceptual, engine=engine)
    name = "prior_v1" if recipe.network.version == 1 else "prior"
    found = earlier(runs, name, "vqgan", given=arguments.prior, full_size=_full_size(recipe))
    teacher = load_part(found, VQGAN)
    if isinstance(recipe, JointSettings):
        return JointRestorationStage(recipe, teacher=teacher, perceptual=perceptual, engine=engine)
    return RestorationStage(recipe, teacher=teacher, perceptual=perceptual, engine=engine)


def _full_size(recipe: Any) -> bool:
    return recipe.network.size == Network().size


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--prior", type=Path, help="folder or VQGAN of the first stage; without it, prior or prior_v1 beside --out"
    )


if __name__ == "__main__":
    sys.exit(main())

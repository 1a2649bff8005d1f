"""The command that runs any stage of CodeFormer.

`python -m codeprior.recipes.codeformer.train prior_small --faces FACES --out runs/prior_small`
`python -m codeprior.recipes.codeformer.train codes_small --faces FACES --out runs/codes_small`
`python -m codeprior.recipes.codeformer.train fidelity_small --faces FACES --out runs/fidelity_small`
`python -m codeprior.recipes.codeformer.train small --faces FACES --out runs` trains all three.

Each stage is a folder: its log, previews, checkpoints, and the weights that the next stage starts from. Started again
on the same folder, it goes on.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codeprior.discriminators import PatchGAN
from codeprior.prior import VQGAN
from codeprior.stages import VQGANStage
from codeprior.stages.earlier import earlier, load_part, perceptual_loss
from codeprior.stages.training_command import TrainingCommand
from codeprior.training import TorchEngine

from .codes_stage import CodesStage
from .fidelity_stage import FidelityStage
from .model import CodeFormer, vqgan
from .settings import SETTINGS, CodesSettings, FidelitySettings, Network, PriorSettings

_SMALL = ("prior_small", "codes_small", "fidelity_small")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status: 0 done, 75 out of time and ready to go on, 2 bad input."""
    return command().main(argv)


def command() -> TrainingCommand:
    """Gives CodeFormer's training command."""
    return TrainingCommand(
        module="codeprior.recipes.codeformer.train", text=(__doc__ or "").split("\n")[0], recipes=SETTINGS, build=build,
        options=_options, full_size=_full_size, chains={"small": _SMALL},
    )  # fmt: skip


def build(
    recipe: PriorSettings | CodesSettings | FidelitySettings,
    arguments: argparse.Namespace,
    runs: Path,
    engine: TorchEngine,
) -> VQGANStage | CodesStage | FidelityStage:
    """Gives the stage of these settings, started from the weights of the stages before it.

    Args:
        recipe: The configuration.
        arguments: Of the command; `prior` and `codes` name the folders of earlier stages.
        runs: Where those lie unless they are named.
        engine: What distributes.

    Raises:
        ValueError: Weights of an earlier stage, or of the perceptual network, are not there; or workers are asked to
            damage the faces of stage III.
    """
    full_size = _full_size(recipe)
    prior = earlier(runs, "prior", "vqgan", given=arguments.prior, full_size=full_size)
    if isinstance(recipe, CodesSettings):
        return CodesStage(recipe, teacher=load_part(prior, VQGAN), engine=engine)
    perceptual = perceptual_loss(recipe.perceptual, arguments.perceptual_weights)
    if isinstance(recipe, PriorSettings):
        model = vqgan(recipe.network, moving_average=recipe.codebook == "moving_average")
        return VQGANStage(recipe, model=model, size=recipe.network.size, perceptual=perceptual, engine=engine)
    if arguments.degrade == "workers":
        raise ValueError("--degrade workers: the damage of stage III depends on the step; leave the option out")
    codes = earlier(runs, "codes", "restorer", given=arguments.codes, full_size=full_size)
    return FidelityStage(
        recipe, model=load_part(codes, CodeFormer), teacher=load_part(prior, VQGAN), perceptual=perceptual,
        discriminator=None if arguments.judge is None else load_part(arguments.judge, PatchGAN), engine=engine,
    )  # fmt: skip


def _full_size(recipe: Any) -> bool:
    return recipe.network.size == Network().size


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prior", type=Path, help="folder or VQGAN of stage I; without it, prior beside --out")
    parser.add_argument("--codes", type=Path, help="folder or restorer of stage II; without it, codes beside --out")
    parser.add_argument("--judge", type=Path, metavar="FILE", help="stage III: a discriminator to go on with")


if __name__ == "__main__":
    sys.exit(main())

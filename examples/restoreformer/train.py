"""The command that runs any stage of RestoreFormer.

`python -m codeprior.recipes.restoreformer.train dictionary_small --faces FACES --out runs/dictionary_small`
`python -m codeprior.recipes.restoreformer.train restoration_small --faces FACES --out runs/restoration_small`

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
from codeprior.stages.earlier import earlier, load_part, perceptual_loss, without_identity
from codeprior.stages.training_command import TrainingCommand
from codeprior.training import TorchEngine

from .model import vqgan
from .restoration_stage import RestorationStage
from .settings import SETTINGS, DictionarySettings, Network, RestorationSettings


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status: 0 done, 75 out of time and ready to go on, 2 bad input."""
    return command().main(argv)


def command() -> TrainingCommand:
    """Gives RestoreFormer's training command."""
    return TrainingCommand(
        module="codeprior.recipes.restoreformer.train", text=(__doc__ or "").split("\n")[0], recipes=SETTINGS,
        build=build, options=_options, full_size=_full_size,
        chains={"small": ("dictionary_small", "restoration_small")},
    )  # fmt: skip


def build(
    recipe: DictionarySettings | RestorationSettings, arguments: argparse.Namespace, runs: Path, engine: TorchEngine
) -> VQGANStage | RestorationStage:
    """Gives the stage of these settings, started from the weights of the stage before it.

    Args:
        recipe: The configuration.
        arguments: Of the command; `dictionary` names the folder of the first stage.
        runs: Where that lies unless it is named.
        engine: What distributes.

    Raises:
        ValueError: Weights of the first stage, or of the perceptual network, are not there.
    """
    perceptual = perceptual_loss(recipe.perceptual, arguments.perceptual_weights)
    if isinstance(recipe, DictionarySettings):
        model = vqgan(recipe.network, moving_average=recipe.codebook == "moving_average")
        return VQGANStage(recipe, model=model, size=recipe.network.size, perceptual=perceptual, engine=engine)
    recipe = without_identity(recipe)
    dictionary = earlier(runs, "dictionary", "vqgan", given=arguments.dictionary, full_size=_full_size(recipe))
    return RestorationStage(recipe, dictionary=load_part(dictionary, VQGAN), perceptual=perceptual, engine=engine)


def _full_size(recipe: Any) -> bool:
    return recipe.network.size == Network().size


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dictionary", type=Path, help="folder or VQGAN of the first stage; without it, dictionary beside --out"
    )


if __name__ == "__main__":
    sys.exit(main())

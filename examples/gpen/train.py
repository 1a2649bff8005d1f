r"""The command that runs either stage of GPEN.

`python -m codeprior.recipes.gpen.train small --faces FACES --out runs`
`python -m codeprior.recipes.gpen.train finetuning_small --faces FACES --out runs/without --prior runs/prior_small \
    --preset without-finetuning`

Each stage is a folder: its log, previews, checkpoints, and the weights that the next stage starts from. Started again
on the same folder, it goes on.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codeprior.discriminators import StyleGANDiscriminator
from codeprior.generators import StyleGANGenerator
from codeprior.stages.earlier import earlier, load_part, without_identity
from codeprior.stages.training_command import TrainingCommand
from codeprior.training import TorchEngine

from .finetuning_stage import FineTuningStage
from .prior_stage import PriorStage
from .settings import SETTINGS, VARIANTS, FineTuningSettings, Network, PriorSettings


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status: 0 done, 75 out of time and ready to go on, 2 bad input."""
    return command().main(argv)


def command() -> TrainingCommand:
    """Gives GPEN's training command."""
    return TrainingCommand(
        module="codeprior.recipes.gpen.train", text=(__doc__ or "").split("\n")[0], recipes=SETTINGS, build=build,
        options=_options, full_size=_full_size, presets=VARIANTS, chains={"small": ("prior_small", "finetuning_small")},
    )  # fmt: skip


def build(
    recipe: PriorSettings | FineTuningSettings, arguments: argparse.Namespace, runs: Path, engine: TorchEngine
) -> PriorStage | FineTuningStage:
    """Gives the stage of these settings, started from the weights of the stage before it.

    Args:
        recipe: The configuration.
        arguments: Of the command; `prior` names the folder of the first stage.
        runs: Where that lies unless it is named.
        engine: What distributes.

    Raises:
        ValueError: Weights of the first stage are not there, or do not fit.
    """
    if isinstance(recipe, PriorSettings):
        return PriorStage(recipe, engine=engine)
    recipe = without_identity(recipe)
    if recipe.begins == "fresh" and arguments.prior is None:
        return FineTuningStage(recipe, engine=engine)
    where = earlier(runs, "prior", "generator", given=arguments.prior, full_size=_full_size(recipe))
    judge = where.with_name("discriminator.safetensors")
    return FineTuningStage(
        recipe, prior=load_part(where, StyleGANGenerator), engine=engine,
        discriminator=load_part(judge, StyleGANDiscriminator) if judge.exists() else None,
    )  # fmt: skip


def _full_size(recipe: Any) -> bool:
    return recipe.network.size >= Network().size


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--prior", type=Path, help="folder or generator of the first stage; without it, prior beside --out"
    )


if __name__ == "__main__":
    sys.exit(main())

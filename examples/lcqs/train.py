r"""The command that runs either stage of LCQS, or the small recipe from end to end.

`python -m codeprior.recipes.lcqs.train small --faces PEOPLE --low OTHERS --out runs`

`--faces` names clean pictures, `--low` those of the other side, which the recipe's degradation is applied to. Nobody
should be in both. Each stage is a folder; started again on the same folder, it goes on.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from codeprior import weights
from codeprior.generators import StyleGANGenerator, SynthesisNetwork
from codeprior.stages.earlier import earlier, load_part, perceptual_loss
from codeprior.stages.training_command import TrainingCommand
from codeprior.training import Stream, TorchEngine, open_images

from .encoder_stage import EncoderStage
from .model import LCQS, fresh, fresh_shift
from .settings import SETTINGS, EncoderSettings, Network, ShiftSettings
from .shift_stage import ShiftStage

_SMALL = ("encoders_small", "shift_small")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status: 0 done, 75 out of time and ready to go on, 2 bad input."""
    return command().main(argv)


def command() -> TrainingCommand:
    """Gives LCQS's training command."""
    return TrainingCommand(
        module="codeprior.recipes.lcqs.train", text=(__doc__ or "").split("\n")[0], recipes=SETTINGS, build=build,
        options=_options, full_size=lambda recipe: recipe.network == Network(), chains={"small": _SMALL},
        prepared=_prepared,
    )  # fmt: skip


def build(recipe: EncoderSettings | ShiftSettings, arguments: argparse.Namespace, runs: Path, engine: TorchEngine):
    """Gives the stage of a recipe, started from the prior, or from the encoders of the stage before.

    Args:
        recipe: The configuration.
        arguments: Of the command.
        runs: Where earlier stages lie unless they are named.
        engine: What distributes.

    Raises:
        ValueError: Weights of an earlier stage, or of the perceptual network, are not there.
    """
    pictures = open_images(arguments.low, size=recipe.degradation_size, cached=arguments.pictures == "memory")
    low = Stream(pictures, batch=recipe.batch, seed=recipe.seed + 1)
    # a run does not go on over other pictures of the low side
    recipe = replace(recipe, low=str(low.fingerprint["source"]))
    perceptual = perceptual_loss(recipe.perceptual, arguments.perceptual_weights)
    if isinstance(recipe, ShiftSettings):
        whole = recipe.network == Network()
        file = earlier(runs, "encoders", "encoders", given=arguments.encoders, full_size=whole)
        model = load_part(file, LCQS)
        # the first stage did not train its shift, and these settings say which it is
        shift = fresh_shift(recipe.network, slots=model.generator.slots)
        model = LCQS(model.high, model.low, model.generator, shift, model.estimator)
        return ShiftStage(recipe, model=model, low=low, perceptual=perceptual, engine=engine)
    if arguments.encoders is not None:
        if arguments.prior is not None:
            raise ValueError("--encoders brings a generator too; leave --prior out.")
        begun = earlier(runs, "encoders", "encoders", given=arguments.encoders, full_size=recipe.network == Network())
        return EncoderStage(recipe, model=load_part(begun, LCQS), low=low, perceptual=perceptual, engine=engine)
    prior = None if arguments.prior is None else _prior(arguments.prior)
    model = fresh(recipe.network, prior=prior)
    return EncoderStage(recipe, model=model, low=low, perceptual=perceptual, engine=engine)


def _prior(path: Path) -> StyleGANGenerator | SynthesisNetwork:
    prior = weights.load(path)
    if not isinstance(prior, (StyleGANGenerator, SynthesisNetwork)):
        raise ValueError(f"--prior: {path} holds a {type(prior).__name__}; give a StyleGANGenerator's file.")
    return prior


def _prepared(stage: Any, arguments: argparse.Namespace, images: Any) -> None:
    if isinstance(stage, ShiftStage):
        stage.begin(images)


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--low", type=Path, nargs="+", required=True, help="folders of pictures of the low side")
    parser.add_argument("--prior", type=Path, metavar="FILE", help="stage encoders: weights of a trained StyleGAN")
    parser.add_argument(
        "--encoders", type=Path,
        help="folder of encoders: stage shift begins from them (encoders beside --out), encoders go on from them",
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())

"""The command that runs any stage of RestoreFormer.

`python -m codeprior.recipes.restoreformer.train dictionary_small --faces FACES --out runs/dictionary_small`
`python -m codeprior.recipes.restoreformer.train restoration_small --faces FACES --out runs/restoration_small`

Each stage is a folder: its log, previews, checkpoints, and the weights that the next stage starts from. Started again
on the same folder, it goes on.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from codeprior.losses import PerceptualLoss
from codeprior.prior import VQGAN
from codeprior.stages import VQGANStage, loss_weights
from codeprior.stages.command import earlier, load_part, perceptual_weights, run_stage, stage_parser
from codeprior.training import Engine

from .model import vqgan
from .restoration_stage import RestorationStage
from .settings import SETTINGS, DictionarySettings


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status: 0 done, 75 out of time and ready to go on, 2 bad input."""
    parser = stage_parser("python -m codeprior.recipes.restoreformer.train", __doc__, SETTINGS)
    parser.add_argument("--dictionary", type=Path, help="folder of the first stage (default: dictionary beside --out)")
    arguments = parser.parse_args(argv)
    return run_stage(SETTINGS[arguments.stage](), arguments, build)


def build(name: str, settings: Any, arguments: argparse.Namespace, engine: Engine | None = None) -> Any:
    """Gives the stage of these settings, started from the weights of the stages before it.

    Args:
        name: Of the settings.
        settings: The configuration.
        arguments: Of the command.
        engine: What distributes.

    Raises:
        ValueError: Weights of an earlier stage, or of the perceptual network, are not there.
    """
    perceptual = PerceptualLoss(
        settings.perceptual, weights=perceptual_weights(settings.perceptual, arguments.perceptual_weights)
    )
    if isinstance(settings, DictionarySettings):
        model = vqgan(settings.network, moving_average=settings.codebook == "moving_average")
        return VQGANStage(settings, model=model, size=settings.network.size, perceptual=perceptual, engine=engine)
    if "identity" in settings.weights:
        print("train: no network of identities comes with the library; that term is left out", file=sys.stderr)
        left = {term: weight for term, weight in settings.weights.items() if term != "identity"}
        settings = replace(settings, weights=loss_weights(**left))
    folder = earlier(arguments, "dictionary", arguments.dictionary)
    return RestorationStage(
        settings, dictionary=load_part(folder / "vqgan.safetensors", VQGAN), perceptual=perceptual, engine=engine
    )


if __name__ == "__main__":
    sys.exit(main())

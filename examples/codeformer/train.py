"""The command that runs any stage of CodeFormer.

`python -m codeprior.recipes.codeformer.train prior_small --faces FACES --out runs/prior_small`
`python -m codeprior.recipes.codeformer.train codes_small --faces FACES --out runs/codes_small`
`python -m codeprior.recipes.codeformer.train fidelity_small --faces FACES --out runs/fidelity_small`

Each stage is a folder: its log, previews, checkpoints, and the weights that the next stage starts from. Started again
on the same folder, it goes on.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codeprior.discriminators import PatchGAN
from codeprior.losses import PerceptualLoss
from codeprior.prior import VQGAN
from codeprior.stages import VQGANStage
from codeprior.stages.command import earlier, load_part, perceptual_weights, run_stage, stage_parser
from codeprior.training import Engine

from .codes_stage import CodesStage
from .fidelity_stage import FidelityStage
from .model import CodeFormer, vqgan
from .settings import SETTINGS, CodesSettings, PriorSettings


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status: 0 done, 75 out of time and ready to go on, 2 bad input."""
    parser = stage_parser("python -m codeprior.recipes.codeformer.train", __doc__, SETTINGS)
    parser.add_argument("--prior", type=Path, help="folder of the first stage (default: prior beside --out)")
    parser.add_argument("--codes", type=Path, help="folder of the second stage (default: codes beside --out)")
    parser.add_argument("--judge", type=Path, metavar="FILE", help="stage III: a discriminator to go on with")
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
    prior = earlier(arguments, "prior", arguments.prior) / "vqgan.safetensors"
    if isinstance(settings, CodesSettings):
        return CodesStage(settings, teacher=load_part(prior, VQGAN), engine=engine)
    perceptual = PerceptualLoss(
        settings.perceptual, weights=perceptual_weights(settings.perceptual, arguments.perceptual_weights)
    )
    if isinstance(settings, PriorSettings):
        model = vqgan(settings.network, moving_average=settings.codebook == "moving_average")
        return VQGANStage(settings, model=model, size=settings.network.size, perceptual=perceptual, engine=engine)
    codes = earlier(arguments, "codes", arguments.codes) / "restorer.safetensors"
    return FidelityStage(
        settings, model=load_part(codes, CodeFormer), teacher=load_part(prior, VQGAN), perceptual=perceptual,
        discriminator=None if arguments.judge is None else load_part(arguments.judge, PatchGAN), engine=engine,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())

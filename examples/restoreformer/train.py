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

import torch

from codeprior import distributed, weights
from codeprior.files import printable
from codeprior.losses import PerceptualLoss
from codeprior.prior import VQGAN
from codeprior.stages import VQGANStage, loss_weights
from codeprior.training import Engine, FolderInUse, Saving, Stream, TorchEngine, open_images, started, train

from ..daefr.train import perceptual_weights
from .model import vqgan
from .restoration_stage import RestorationStage
from .settings import SETTINGS, DictionarySettings


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit status: 0 done, 75 out of time and ready to go on, 2 bad input."""
    arguments = _parser().parse_args(argv)
    settings: Any = SETTINGS[arguments.stage]()
    changes = {key: getattr(arguments, key) for key in ("steps", "batch") if getattr(arguments, key) is not None}
    settings = replace(settings, **changes)
    with started() as device:
        engine = TorchEngine(arguments.device or device)
        try:
            torch.manual_seed(settings.seed)
            stage = build(arguments.stage, settings, arguments, engine)
            images = open_images(arguments.faces, size=settings.degradation_size)
            finished = train(
                stage, Stream(images, batch=settings.batch, seed=settings.seed), folder=arguments.out,
                steps=settings.steps, minutes=arguments.minutes, saving=Saving(every=arguments.save_every),
                log_every=arguments.log_every, preview_every=arguments.preview_every, device=engine.device,
                engine=engine, name=arguments.stage, settings={"stage": arguments.stage},
            )  # fmt: skip
        except (ValueError, FileNotFoundError, FolderInUse) as error:
            print(f"train: {printable(error)}", file=sys.stderr)
            return 2
    if distributed.rank() == 0:
        for part, module in stage.results.items():
            weights.save(arguments.out / f"{part}.safetensors", module, metadata={"stage": arguments.stage})
    return 0 if finished.complete else 75


def build(name: str, settings: Any, arguments: argparse.Namespace, engine: Engine | None = None) -> Any:
    """Gives the stage of these settings, started from the weights of the stages before it.

    Args:
        name: Of the settings.
        settings: The configuration.
        arguments: Of the command; `dictionary` names the folder of the first stage.
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
    folder = arguments.dictionary or arguments.out.parent / ("dictionary_small" if "_small" in name else "dictionary")
    if "identity" in settings.weights:
        weights_left = {term: weight for term, weight in settings.weights.items() if term != "identity"}
        print("train: no network of identities comes with the library; that term is left out", file=sys.stderr)
        settings = replace(settings, weights=loss_weights(**weights_left))
    return RestorationStage(
        settings, dictionary=_load(folder / "vqgan.safetensors", VQGAN), perceptual=perceptual, engine=engine
    )


def _load(path: Path, kind: type) -> Any:
    if not path.exists():
        raise ValueError(f"{path} is missing; run the stage before this one, or name its folder")
    found = weights.load(path)
    if not isinstance(found, kind):
        raise ValueError(f"{path} holds a {type(found).__name__}; expected the {kind.__name__} of an earlier stage")
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m codeprior.recipes.restoreformer.train", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("stage", choices=SETTINGS, help="a stage of the paper's sizes, or of the small ones")
    parser.add_argument("--faces", type=Path, nargs="+", required=True, help="folders of square faces")
    parser.add_argument("--out", type=Path, required=True, help="the run's folder")
    parser.add_argument("--dictionary", type=Path, help="folder of the first stage (default: dictionary beside --out)")
    parser.add_argument("--perceptual-weights", help="weights file of the perceptual network, or random")
    parser.add_argument("--steps", type=int, help="instead of the settings'")
    parser.add_argument("--batch", type=int, help="instead of the settings', over all ranks")
    parser.add_argument("--minutes", type=float, help="stop cleanly after so long; the next call goes on")
    parser.add_argument("--save-every", type=int, default=500, help="steps between checkpoints")
    parser.add_argument("--log-every", type=int, default=25, help="steps between lines of the log")
    parser.add_argument("--preview-every", type=int, default=500, help="steps between pictures")
    parser.add_argument("--device", help="without it, the GPU where there is one")
    return parser


if __name__ == "__main__":
    sys.exit(main())

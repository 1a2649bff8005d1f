"""The training command of a family: its recipes, presets, validation and every option.

A family's `train.py` gives its recipes, how a stage is built and which options are its own. Each stage is a folder: its
log, previews, checkpoints, and the weights that the next stage starts from. Started again on the same folder, it goes
on.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import torch

from codeprior import distributed, weights
from codeprior.files import printable
from codeprior.stages.configuration import configured
from codeprior.stages.settings import StageSettings
from codeprior.stages.validation import Validation
from codeprior.training import (
    FolderInUse,
    Logger,
    Saving,
    Settings,
    Stream,
    TensorBoardLogger,
    TorchEngine,
    TrackioLogger,
    WandbLogger,
    hold_where_it_fits,
    open_images,
    started,
    train,
)

Recipe = TypeVar("Recipe", bound=StageSettings)
Build = Callable[[Any, argparse.Namespace, Path, TorchEngine], Any]
"""Gives the stage of a recipe, from the options, the folder where earlier stages lie, and the engine."""
CHANGES = MappingProxyType(
    {
        "steps": "steps", "batch": "batch", "seed": "seed", "accumulate": "accumulate", "rate": "learning_rate",
        "warmup": "warmup", "decay": "decay", "decay_from": "decay_from", "clip": "clip", "average": "average",
        "discriminator_from": "adversarial_from",
    }
)  # fmt: skip
"""Options that change a recipe, and which of its fields."""


@dataclass(frozen=True, kw_only=True)
class TrainingCommand:
    """The training command of a family.

    Args:
        module: What `python -m` runs.
        text: One sentence for the help.
        recipes: Functions that give a whole configuration, by name.
        build: Gives the stage of a recipe.
        options: Adds the family's own options, such as the folders of earlier stages.
        full_size: Says whether a recipe is of full size: its checkpoints go by time and in the background.
        presets: Changes of a recipe that `--preset` takes.
        chains: Names that stand for several recipes, one after the other, each in a folder of its own.
        prepared: Called with the stage, the options and the images before training, for what takes a stage further.
    """

    module: str
    text: str
    recipes: Mapping[str, Callable[[], Any]]
    build: Build
    options: Callable[[argparse.ArgumentParser], None] = lambda parser: None
    full_size: Callable[[Any], bool] = lambda recipe: True
    presets: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    chains: Mapping[str, Sequence[str]] = field(default_factory=dict)
    prepared: Callable[[Any, argparse.Namespace, Any], None] = lambda stage, arguments, images: None

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Runs the command; returns the exit status: 0 done, 75 out of time and ready to go on, 2 bad input.

        Args:
            argv: The words after the name of the program; those of the process without it.
        """
        arguments = self.parser().parse_args(argv)
        if arguments.threads:
            torch.set_num_threads(arguments.threads)
        chain = self.chains.get(arguments.recipe)
        with started() as device:
            engine = TorchEngine(
                arguments.device or device, precision=arguments.precision, channels_last=arguments.channels_last,
                compiled=arguments.compile,
            )  # fmt: skip
            # the fastest algorithms differ from run to run, and so then do the last bits
            torch.backends.cudnn.benchmark = engine.device.type == "cuda" and not arguments.deterministic
            try:
                for name in chain or (arguments.recipe,):
                    if not self.run(name, arguments, arguments.out / name if chain else arguments.out, engine):
                        return 75
            except (ValueError, FileNotFoundError, FolderInUse) as error:
                sys.stderr.write(f"train: {printable(error)}\n")
                return 2
        return 0

    def run(self, name: str, arguments: argparse.Namespace, out: Path, engine: TorchEngine) -> bool:
        """Runs one stage into its folder; returns whether it is complete.

        Args:
            name: Of the recipe.
            arguments: Of the command.
            out: The folder.
            engine: What distributes.
        """
        recipe = self.recipes[name]()
        if arguments.config or arguments.set:
            recipe = configured(name, recipe, file=arguments.config, words=arguments.set)
        recipe = changed(name, recipe, arguments)
        if arguments.preset:
            recipe = self.presets[arguments.preset](recipe)
        torch.manual_seed(recipe.seed)
        asked = arguments.pictures
        images = open_images(arguments.faces, size=recipe.degradation_size, cached=asked == "memory")
        where = hold_where_it_fits(images) if asked == "auto" else f"pictures from {asked}, as asked"
        stage = self.build(recipe, arguments, out.parent, engine)
        self.prepared(stage, arguments, images)
        stream = Stream(
            images, batch=recipe.batch, seed=recipe.seed, workers=arguments.workers,
            prepare=stage.faces.on_workers if arguments.degrade == "workers" else None,
            pinned=engine.device.type == "cuda",
        )  # fmt: skip
        finished = train(
            stage, stream, folder=out, steps=recipe.steps, minutes=arguments.minutes, name=name,
            saving=saving(arguments, full_size=self.full_size(recipe)),
            log_every=arguments.log_every, preview_every=arguments.preview_every, device=engine.device, engine=engine,
            validate=Validation(stage, arguments.validation) if arguments.validation else None,
            validate_every=arguments.validate_every, loggers=_loggers(arguments, out, name),
            # how long a run is, and in how many parts a batch is worked on, may change
            settings=Settings(stage.recipe, name, without=("steps", "accumulate"), options=_options(arguments)),
            facts={"pictures": where},
        )  # fmt: skip
        if distributed.rank() == 0:
            metadata = {"recipe": name, "steps": str(finished.step)}
            for part, module in stage.results.items():
                weights.save(out / f"{part}.safetensors", module, metadata=metadata)
        return finished.complete

    def parser(self) -> argparse.ArgumentParser:
        """Gives the parser of the command line."""
        parser = argparse.ArgumentParser(prog=f"python -m {self.module}", description=self.text)
        chains = "".join(f"; {name}: {', '.join(parts)}, in turn" for name, parts in self.chains.items())
        parser.add_argument("recipe", choices=[*self.chains, *self.recipes], help=f"a stage{chains}")
        parser.add_argument(
            "--faces", type=Path, nargs="+", required=True, help="folders of square faces, of shards, or of raw pixels"
        )
        parser.add_argument("--out", type=Path, required=True, help="the run's folder")
        self.options(parser)
        parser.add_argument("--perceptual-weights", help="weights file of the perceptual network, or random")
        parser.set_defaults(preset=None)
        if self.presets:
            parser.add_argument("--preset", choices=self.presets, help="a change of the whole recipe")
        _shared_options(parser)
        return parser


def changed(name: str, recipe: Recipe, arguments: argparse.Namespace) -> Recipe:
    """Gives a recipe with what the command line asks for instead.

    Args:
        name: Of the recipe.
        recipe: The recipe.
        arguments: Of the command.

    Raises:
        ValueError: The recipe has nothing of the kind.
    """
    given = {key: getattr(arguments, key) for key in CHANGES if getattr(arguments, key) is not None}
    for key in given:
        if CHANGES[key] not in recipe.__dataclass_fields__:
            raise ValueError(f"--{key.replace('_', '-')} says nothing to {name}: its recipe has no {CHANGES[key]}")
    return replace(recipe, **{CHANGES[key]: value for key, value in given.items()})


def saving(arguments: argparse.Namespace, *, full_size: bool) -> Saving:
    """Gives when and how checkpoints are written: of full-size networks in the background, every 15 minutes.

    A checkpoint of a VQGAN at full size is 1 GB; by steps there would be a thousand of them.

    Args:
        arguments: Of the command.
        full_size: Whether the networks are of full size.
    """
    by_steps = arguments.save_every is not None or (not full_size and arguments.save_minutes is None)
    by_time = arguments.save_minutes is not None or not by_steps
    # the best by validation are chosen among checkpoints of steps that were validated
    validated = arguments.validate_every if arguments.validation and arguments.best else 0
    return Saving(
        every=(500 if arguments.save_every is None else arguments.save_every) if by_steps else validated,
        minutes=(15.0 if arguments.save_minutes is None else arguments.save_minutes) if by_time else None,
        keep=arguments.keep, keep_every=arguments.keep_every, best=arguments.best,
        best_by="score" if arguments.validation else None,
        background=full_size if arguments.background is None else arguments.background,
    )  # fmt: skip


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Gives the words of the command that are no settings of the recipe, as JSON values."""
    return json.loads(
        json.dumps({name: value for name, value in vars(arguments).items() if name != "recipe"}, default=str)
    )


def _loggers(arguments: argparse.Namespace, out: Path, name: str) -> list[Logger]:
    if distributed.rank():
        return []
    chosen: list[Logger] = [TensorBoardLogger(out / "tensorboard")] if arguments.tensorboard else []
    chosen += [TrackioLogger(arguments.trackio, name=name)] if arguments.trackio else []
    chosen += [WandbLogger(arguments.wandb, name=name, folder=out)] if arguments.wandb else []
    return chosen


def _shared_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tensorboard", action="store_true", help="also write event files, into OUT/tensorboard")
    parser.add_argument("--trackio", metavar="PROJECT", help="also log to a trackio project, kept on this machine")
    parser.add_argument(
        "--wandb", metavar="PROJECT", help="also log to a Weights & Biases project; WANDB_MODE=offline keeps it here"
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML: settings by name, instead of the recipe's")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE",
        help="one setting instead of the recipe's, with dots into what it holds: network.channels=64",
    )  # fmt: skip
    parser.add_argument("--steps", type=int, help="instead of the recipe's")
    parser.add_argument("--batch", type=int, help="instead of the recipe's, over all ranks")
    parser.add_argument("--accumulate", type=int, metavar="N", help="parts of a rank's batch, to save memory")
    parser.add_argument("--seed", type=int, help="instead of the recipe's")
    parser.add_argument("--minutes", type=float, help="stop cleanly after so long; the next call goes on")
    parser.add_argument("--rate", type=float, help="learning rate, instead of the recipe's")
    parser.add_argument("--warmup", type=int, metavar="STEPS", help="in which the rate rises")
    parser.add_argument("--decay", choices=("linear", "cosine"), help="how the rate falls")
    parser.add_argument(
        "--decay-from", type=float, metavar="SHARE", help="of the steps, after which the rate falls to 0"
    )
    parser.add_argument("--clip", type=float, metavar="NORM", help="largest norm of the gradients of a step")
    parser.add_argument(
        "--average", type=float, metavar="SHARE", help="that the average of the weights keeps at a step"
    )
    parser.add_argument(
        "--discriminator-from", type=float, metavar="SHARE", help="of the steps, after which the discriminator counts"
    )
    parser.add_argument("--save-every", type=int, help="steps between checkpoints; 500 for small networks")
    parser.add_argument("--save-minutes", type=float, help="minutes between checkpoints; 15 for full-size networks")
    parser.add_argument("--keep", type=int, default=2, help="how many of the newest checkpoints stay")
    parser.add_argument("--keep-every", type=int, default=0, metavar="N", help="those of every N-th step stay too")
    parser.add_argument("--best", type=int, default=0, help="how many of the best by validation stay too")
    parser.add_argument(
        "--background", action=argparse.BooleanOptionalAction,
        help="write checkpoints while training goes on; so it is for full-size networks",
    )  # fmt: skip
    parser.add_argument(
        "--validation", type=Path, nargs="+", metavar="FACES", help="folders of faces to measure on, not trained on"
    )
    parser.add_argument("--validate-every", type=int, default=500, help="steps between measurements")
    parser.add_argument("--log-every", type=int, default=25, help="steps between lines of the log")
    parser.add_argument("--preview-every", type=int, default=500, help="steps between pictures")
    parser.add_argument("--device", help="without it, the GPU where there is one")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="of forward passes")
    parser.add_argument("--channels-last", action="store_true", help="memory layout that convolutions on a GPU prefer")
    parser.add_argument("--compile", action="store_true", help="compile the networks")
    parser.add_argument("--threads", type=int, default=0, help="of the CPU; 0 leaves torch's choice")
    parser.add_argument("--workers", type=int, default=0, help="loader processes")
    parser.add_argument(
        "--degrade", choices=("device", "workers"), default="device", help="where faces are damaged; the same damage"
    )
    parser.add_argument(
        "--from-disk", dest="pictures", action="store_const", const="disk", default="auto",
        help="decode pictures when they are needed, not at the start; so it is where memory does not hold them",
    )  # fmt: skip
    parser.add_argument(
        "--in-memory", dest="pictures", action="store_const", const="memory", help="decode all pictures at the start"
    )
    parser.add_argument(
        "--deterministic", action="store_true", help="on a GPU, choose convolutions without timing them first"
    )

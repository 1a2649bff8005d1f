"""Weights to ship with a package, made from the folders of a run: half precision, the licence in the header, curves."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from codeprior import files, weights
from codeprior.training.watch import Log


class Shipped(NamedTuple):
    """Where the weights of one file come from.

    Attributes:
        stage: Folder of the run.
        part: What the stage wrote, such as `vqgan`.
        kind: Class of the module.
        recipe: The stages that it went through, for the header.
    """

    stage: str
    part: str
    kind: type[nn.Module]
    recipe: str


def ship(runs: Path, out: Path, wanted: Mapping[str, Shipped], *, facts: Mapping[str, str]) -> list[Path]:
    """Writes weights in half precision, and `curves.json`, the curves of their training.

    Args:
        runs: Holds the folders of the stages.
        out: Where the files go; those of the same names are replaced.
        wanted: The files by name, without suffix.
        facts: For the header of every file: licence, data and the like.

    Returns:
        The paths written.

    Raises:
        FileNotFoundError: The weights of a stage are not there.
        ValueError: A file holds another model.
    """
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, (stage, part, kind, recipe) in wanted.items():
        source = runs / stage / f"{part}.safetensors"
        module = weights.load(source)
        if not isinstance(module, kind):
            raise ValueError(f"{source} holds a {type(module).__name__}; expected a {kind.__name__}.")
        weights.save(out / f"{name}.safetensors", module, metadata={**facts, "recipe": recipe}, dtype=torch.float16)
        written.append(out / f"{name}.safetensors")
    path = out / "curves.json"
    files.write(path, json.dumps(curves(runs), separators=(",", ":")) + "\n", overwrite=True)
    return [*written, path]


def curves(runs: Path) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Gives, for each stage's folder that is there, each logged figure as its steps and its values.

    Args:
        runs: Holds the folders of the stages.
    """
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for folder in sorted(runs.iterdir()):
        for line in Log(folder / "log.jsonl").read():
            for name, value in line.items():
                if (
                    name in {"step", "elapsed", "steps_per_second"}
                    or not isinstance(value, (int, float))
                    or isinstance(value, bool)
                ):
                    continue
                curve = found.setdefault(folder.name, {}).setdefault(name, {"step": [], "value": []})
                curve["step"].append(line["step"])
                curve["value"].append(float(f"{value:.5g}"))
    return found

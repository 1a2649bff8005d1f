"""What the commands that measure restorers share: loading columns and methods, and running without `codeprior`."""

import argparse
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from codeprior.commands._printing import say

if TYPE_CHECKING:
    from codeprior.evaluation import Methods
    from codeprior.evaluation.methods import Asked
    from codeprior.metrics import Measure

LEFT_OUT, USAGE = 3, 2
"""Exit statuses: some faces were left out; nothing could be measured."""
COLUMNS = "such as psnr,ssim,identity; all that can be made by default"
"""Help for `--columns`."""


def guarded(name: str, run: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    """Runs a command; what is wrong with its input becomes a line on stderr and the exit status 2.

    Args:
        name: Of the command.
        run: Gives the exit status.
        options: As parsed.
    """
    try:
        return run(options)
    except (OSError, ValueError, ImportError) as error:
        say(f"{name}: {error}", error=True)
        return USAGE


def run_module(command: ModuleType, name: str, arguments: Sequence[str] | None = None) -> int:
    """Runs a command as a module of its own, as `python -m codeprior.recipes.daefr.evaluate` always did.

    Args:
        command: A module of `codeprior.commands`.
        name: Of the program.
        arguments: The words after it; those of the process where None.

    Returns:
        The exit status of the command, with 1 where nothing could be measured.
    """
    parser = argparse.ArgumentParser(prog=name, description=command.HELP)
    command.add_arguments(parser)
    status = command.run(parser.parse_args(arguments))
    return 1 if status == USAGE else status


def asked_columns(name: str, options: argparse.Namespace, *, official: bool = False) -> "list[Measure]":
    """Gives the columns that a command is asked for, and says which are left out.

    Args:
        name: Of the command.
        options: With `columns` and `weights`.
        official: As the reference computes them.
    """
    from codeprior import metrics

    asked = options.columns.split(",") if options.columns else None
    measures, skipped = metrics.columns(asked, weights=options.weights, official=official)
    for column, reason in skipped.items():
        say(f"{name}: the column {column} is left out: {reason}", error=True)
    return measures


def asked_methods(words: Sequence[str], *, size: int | None, batch: int, colour: bool = False) -> "Methods":
    """Loads the restorers that a command is asked for, of any installed family or known to spandrel.

    Args:
        words: `NAME=[FAMILY:]WEIGHTS[?option=value]`; the family `spandrel` stands for its networks.
        size: Side of the faces that are measured, or None for the restorers' own.
        batch: Faces at once.
        colour: Also with the input's coarse colours.
    """
    from codeprior import evaluation
    from codeprior.families import family_names
    from codeprior.restorers import PEERS, load_peer, load_restorer

    def load(asked: "Asked") -> Any:
        if asked.recipe == PEERS:
            return load_peer(asked.weights, batch=batch)
        return load_restorer(asked.weights, family=asked.recipe or None, batch=batch)

    asked = [evaluation.asked_method(word, recipes=(*family_names(), PEERS)) for word in words]
    return evaluation.load_methods(asked, load, size=size, colour=colour)

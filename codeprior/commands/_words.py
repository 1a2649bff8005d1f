"""The words of the command line: the commands that there are, found in their package, and the parser of them."""

import argparse
import pkgutil
import re
from collections.abc import Sequence
from importlib import import_module

from codeprior import __version__, commands


def command_names() -> list[str]:
    """Gives the names of all commands, sorted; none of them is imported."""
    return sorted(module.name for module in pkgutil.iter_modules(commands.__path__) if module.name[0] != "_")


def parser_of(names: Sequence[str]) -> argparse.ArgumentParser:
    """Gives the parser that knows some commands.

    Args:
        names: Of the commands.
    """
    parser = argparse.ArgumentParser(prog="codeprior", description="Codebook priors for image restoration.")
    parser.add_argument("--version", action="version", version=f"codeprior {__version__}")
    choices = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in names:
        command = import_module(f"codeprior.commands.{name}")
        command.add_arguments(choices.add_parser(name, help=command.HELP, description=command.HELP))
    return parser


def options_of(name: str) -> list[str]:
    """Gives the long options of a command, such as `--faces`.

    Args:
        name: Of the command.
    """
    parser = argparse.ArgumentParser()
    import_module(f"codeprior.commands.{name}").add_arguments(parser)
    return re.findall(r"--[a-z][a-z-]*", parser.format_usage())

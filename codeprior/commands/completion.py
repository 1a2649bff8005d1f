"""`codeprior completion SHELL`: what a shell needs to complete the words of all commands."""

import argparse
import sys
from pathlib import Path
from typing import Any

from codeprior.commands._printing import say
from codeprior.commands._words import command_names, parser_of
from codeprior.extras import needed

HELP = "Print the script that lets a shell complete commands, options and files: bash, zsh or fish."
_USAGE = 2
_FILES = ("PATH", "FILE", "DIR", "PHOTO", "IN", "OUT")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the words of this command.

    Args:
        parser: The command's own parser.
    """
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="whose script")


def run(arguments: argparse.Namespace) -> int:
    """Prints the script.

    Args:
        arguments: As parsed.

    Returns:
        0, or 2 where shtab is not installed.
    """
    try:
        shtab = needed("shtab", who="codeprior completion")
    except ImportError as error:
        say(f"codeprior completion: {error}", error=True)
        return _USAGE
    parser = parser_of(command_names())
    _complete_files(parser, shtab.FILE)
    # a script is given as it is; no name from outside is in it
    sys.stdout.write(f"{shtab.complete(parser, arguments.shell)}\n")
    return 0


def _complete_files(parser: argparse.ArgumentParser, how: Any) -> None:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                _complete_files(inner, how)
        elif action.type is Path or any(word in str(action.metavar or action.dest.upper()) for word in _FILES):
            action.complete = how  # pyright: ignore[reportAttributeAccessIssue]

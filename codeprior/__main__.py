"""The command line: `codeprior COMMAND …`. A command is a module of `codeprior.commands`, imported when it is used."""

import argparse
import pkgutil
import sys
from collections.abc import Sequence
from importlib import import_module

from codeprior import __version__, commands


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit status.

    Args:
        arguments: The words after `codeprior`; those of the process where None.

    Returns:
        0 where all was done, 3 where some of it failed, 2 for a wrong call, 130 after an interrupt; other errors raise,
        which ends the process with 1.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    names = sorted(module.name for module in pkgutil.iter_modules(commands.__path__) if module.name[0] != "_")
    parser = argparse.ArgumentParser(prog="codeprior", description="Codebook priors for image restoration.")
    parser.add_argument("--version", action="version", version=f"codeprior {__version__}")
    choices = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    # the words that name no command need every command's line of help
    for name in [words[0]] if words and words[0] in names else names:
        command = import_module(f"codeprior.commands.{name}")
        command.add_arguments(choices.add_parser(name, help=command.HELP, description=command.HELP))
    try:
        parsed = parser.parse_args(words)
        return import_module(f"codeprior.commands.{parsed.command}").run(parsed)
    except SystemExit as ending:  # argparse has said what is wrong
        return ending.code if isinstance(ending.code, int) else 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    raise SystemExit(main())

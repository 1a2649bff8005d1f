"""`codeprior impls`: which kernels run on this machine, and why the others do not."""

import argparse

from codeprior.commands._printing import say_lines

HELP = "Say which implementation of each kernel runs here, and why the others do not."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument("--device", choices=("cpu", "cuda"), help="explain for this type of device (default: the best)")


def run(arguments: argparse.Namespace) -> int:
    """Prints the explanation.

    Returns:
        0.
    """
    from codeprior.kernels import explain

    say_lines(explain(arguments.device))
    return 0

"""The command line: `codeprior COMMAND …`. A command is a module of `codeprior.commands`, imported when it is used."""

import io
import sys
from collections.abc import Sequence
from importlib import import_module

from codeprior.commands._words import command_names, parser_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit status.

    Args:
        arguments: The words after `codeprior`; those of the process where None.

    Returns:
        0 where all was done, 3 where some of it failed, 2 for a wrong call, 130 after an interrupt; other errors raise,
        which ends the process with 1.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # letters that a terminal cannot show are escaped; a file name that is not valid text must not end the run
            stream.reconfigure(errors="backslashreplace")
    words = list(sys.argv[1:] if arguments is None else arguments)
    names = command_names()
    # where the first word is no command, all of them are imported, for the list in --help
    parser = parser_of([words[0]] if words and words[0] in names else names)
    try:
        parsed, rest = parser.parse_known_args(words)
        # argparse reads a list of names in one piece; names that come after an option belong to the list too
        if rest and (not hasattr(parsed, "paths") or any(word.startswith("-") for word in rest)):
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        if rest:
            parsed.paths = [*parsed.paths, *rest]
        return import_module(f"codeprior.commands.{parsed.command}").run(parsed)
    except SystemExit as ending:  # argparse has said what is wrong
        return ending.code if isinstance(ending.code, int) else 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    raise SystemExit(main())

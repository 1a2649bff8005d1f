"""The command line: `codeprior COMMAND …`. A command is a module of `codeprior.commands`, imported when it is used."""

import difflib
import io
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from codeprior.commands._words import command_names, options_of, parser_of
from codeprior.files import printable


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
            unknown = [word for word in rest if word.startswith("-")] or rest
            parser.error(f"unrecognized arguments: {' '.join(unknown)}{_meant(parsed.command, unknown)}")
        if rest:
            parsed.paths = [*parsed.paths, *rest]
        with _plain_warnings():
            return import_module(f"codeprior.commands.{parsed.command}").run(parsed)
    except SystemExit as ending:  # argparse has said what is wrong
        return ending.code if isinstance(ending.code, int) else 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _meant(command: str, words: Sequence[str]) -> str:
    """Gives the options that were probably meant by words that are none."""
    known = options_of(command)
    likely = [near for word in words for near in difflib.get_close_matches(word.split("=")[0], known, n=1)]
    return f" (did you mean {', '.join(likely)}?)" if likely else f"; codeprior {command} --help lists its options"


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Prints the library's warnings as sentences, without the line of code that they come from."""
    before = warnings.formatwarning

    def plain(message: Warning | str, category: type[Warning], *place: Any, **line: Any) -> str:
        if category is not UserWarning:
            return before(message, category, *place, **line)
        return f"warning: {printable(message)}\n"

    warnings.formatwarning = plain
    try:
        yield
    finally:
        warnings.formatwarning = before


if __name__ == "__main__":
    raise SystemExit(main())

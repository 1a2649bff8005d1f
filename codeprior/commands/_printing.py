"""What the commands print: names from the disk and from inside files never reach a terminal as they are."""

import sys

from codeprior.files import printable


def say(text: object = "", *, error: bool = False) -> None:
    """Prints one message on one line.

    Args:
        text: With whatever names it has; what is not printable is escaped.
        error: On the error stream.
    """
    stream = sys.stderr if error else sys.stdout
    # a terminal of another encoding may lack letters that can be printed elsewhere
    code = stream.encoding or "utf-8"
    print(printable(text).encode(code, "backslashreplace").decode(code), file=stream, flush=error)


def reason_of(error: Exception) -> str:
    """Gives what a report says of a photograph that failed, without its path.

    Args:
        error: What came of it.
    """
    from codeprior.photos.files import PhotoError

    if isinstance(error, PhotoError):
        return error.reason
    text = str(error) or type(error).__name__
    return text if isinstance(error, ValueError) else f"{type(error).__name__}: {text}"


def say_lines(text: str) -> None:
    """Prints a text of several lines, such as a table.

    Args:
        text: Names in it are escaped where the text was made, or have no line breaks.
    """
    for line in text.splitlines():
        say(line)

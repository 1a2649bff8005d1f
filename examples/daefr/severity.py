"""Quality against severity: `codeprior severity`, which serves every family, under its former name."""

import sys
from collections.abc import Sequence

from codeprior._renamed import moved
from codeprior.commands import severity
from codeprior.commands._measuring import run_module


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; gives its exit status: 0 all measured, 1 nothing could be, 3 some faces were left out.

    Args:
        arguments: The words after the name of the program; those of the process without it.
    """
    return run_module(severity, "severity", arguments)


__getattr__ = moved(__name__, "codeprior.evaluation", ("plot",), renamed={"plot": "plot_severity"})

if __name__ == "__main__":
    sys.exit(main())

"""Tables of trained restorers: `codeprior compare`, which serves every family, under its former name."""

import sys
from functools import partial

from codeprior._renamed import moved
from codeprior.commands import compare
from codeprior.commands._measuring import run_module

main = partial(run_module, compare, "evaluate")
__getattr__ = moved(__name__, "codeprior.commands._measuring", ("asked_columns", "asked_methods", "guarded"))

if __name__ == "__main__":
    sys.exit(main())

"""Quality against severity: `codeprior severity`, which serves every family, under its former name."""

import sys
from functools import partial

from codeprior._renamed import moved
from codeprior.commands import severity
from codeprior.commands._measuring import run_module

main = partial(run_module, severity, "severity")
__getattr__ = moved(__name__, "codeprior.evaluation", ("plot",), renamed={"plot": "plot_severity"})

if __name__ == "__main__":
    sys.exit(main())

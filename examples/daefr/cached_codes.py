"""Target codes from a file: moved to `codeprior.stages.codes`; the old names work for one release and say so."""

from codeprior.weights._moved import moved

__getattr__ = moved(__name__, "codeprior.stages.codes")

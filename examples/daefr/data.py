"""What the networks see: moved to `codeprior.stages.pairs`; the old names work for one release and say so."""

from codeprior.weights._moved import moved

__getattr__ = moved(__name__, "codeprior.stages.pairs")

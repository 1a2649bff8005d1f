"""Figures on held-out faces: moved to `codeprior.stages.validation`; the old names work for one release and say so."""

from codeprior.weights._moved import moved

__getattr__ = moved(__name__, "codeprior.stages.validation")

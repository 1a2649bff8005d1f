"""Moved to `codeprior.checkpoints.archive`; this name works for one release."""

from codeprior.weights._moved import moved

__getattr__ = moved("codeprior.weights.archive", "codeprior.checkpoints.archive")

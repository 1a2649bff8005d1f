"""Moved to `codeprior.checkpoints.machine`; this name works for one release."""

from codeprior.weights._moved import moved

__getattr__ = moved("codeprior.weights.machine", "codeprior.checkpoints.machine")

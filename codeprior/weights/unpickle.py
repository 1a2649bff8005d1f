"""Moved to `codeprior.checkpoints.unpickle`; this name works for one release."""

from codeprior.weights._moved import moved

__getattr__ = moved("codeprior.weights.unpickle", "codeprior.checkpoints.unpickle")

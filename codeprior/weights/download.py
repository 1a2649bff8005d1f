"""Moved to `codeprior.checkpoints.download`; this name works for one release."""

from codeprior.weights._moved import moved

__getattr__ = moved("codeprior.weights.download", "codeprior.checkpoints.download")

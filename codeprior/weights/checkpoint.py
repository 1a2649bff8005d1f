"""Moved to `codeprior.checkpoints.checkpoint`; this name works for one release."""

from codeprior.weights._moved import moved

__getattr__ = moved("codeprior.weights.checkpoint", "codeprior.checkpoints.checkpoint")

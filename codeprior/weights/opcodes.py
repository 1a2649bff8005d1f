"""Moved to `codeprior.checkpoints.opcodes`; this name works for one release."""

from codeprior.weights._moved import moved

__getattr__ = moved("codeprior.weights.opcodes", "codeprior.checkpoints.opcodes")

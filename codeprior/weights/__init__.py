"""Weights: the native safetensors store. Other people's files are read in `codeprior.checkpoints`."""

from codeprior.weights._moved import moved
from codeprior.weights.convert import convert_state
from codeprior.weights.store import load, read_family, read_metadata, save

__all__ = ["convert_state", "load", "read_family", "read_metadata", "save"]

__getattr__ = moved("codeprior.weights", "codeprior.checkpoints", ("Checkpoint", "fetch", "read_checkpoint"))

"""Weights: the native safetensors store, and safe reading of other people's checkpoints."""

from codeprior.weights.checkpoint import Checkpoint, read_checkpoint
from codeprior.weights.download import fetch
from codeprior.weights.store import load, read_metadata, save

__all__ = ["Checkpoint", "fetch", "load", "read_checkpoint", "read_metadata", "save"]

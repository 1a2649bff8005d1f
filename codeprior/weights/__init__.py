"""Weights: the native safetensors store, and safe reading of other people's checkpoints."""

from codeprior.weights.store import load, read_metadata, save

__all__ = ["load", "read_metadata", "save"]

"""Weights: the native safetensors store. Other people's files are read in `codeprior.checkpoints`."""

from codeprior._renamed import former_module, moved
from codeprior.weights.convert import convert_state
from codeprior.weights.origin import origin_of, published_as, remember_origin
from codeprior.weights.store import load, load_as, read_family, read_metadata, save

__all__ = [
    "convert_state", "load", "load_as", "origin_of", "published_as", "read_family", "read_metadata", "remember_origin",
    "save",
]  # fmt: skip

__getattr__ = moved("codeprior.weights", "codeprior.checkpoints", ("Checkpoint", "fetch", "read_checkpoint"))

for _name in ("archive", "checkpoint", "download", "machine", "opcodes", "unpickle"):
    former_module(f"{__name__}.{_name}", f"codeprior.checkpoints.{_name}")

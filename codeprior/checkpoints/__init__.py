"""Other people's weight files: read without being run, hashed, fetched on request."""

from codeprior.checkpoints.arrays import read_arrays
from codeprior.checkpoints.checkpoint import Checkpoint, read_checkpoint
from codeprior.checkpoints.download import fetch, recorded_sum

__all__ = ["Checkpoint", "fetch", "read_arrays", "read_checkpoint", "recorded_sum"]

"""What the recipes share: the stage protocol, the loop, the order of the data, checkpoints, and what a run shows."""

from codeprior.training.checkpoint import Checkpoints, DamagedCheckpoint
from codeprior.training.data import Batch, ImageFolder, Source, Stream
from codeprior.training.loop import Finished, Stopped, train
from codeprior.training.stage import Stage

__all__ = [
    "Batch", "Checkpoints", "DamagedCheckpoint", "Finished", "ImageFolder", "Source", "Stage", "Stopped", "Stream",
    "train",
]  # fmt: skip

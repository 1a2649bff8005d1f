"""What the recipes share: the stage protocol, the loop, the order of the data, checkpoints, and what a run shows."""

from codeprior.training.adapters import AccelerateEngine, FabricEngine
from codeprior.training.checkpoint import Checkpoints, DamagedCheckpoint
from codeprior.training.data import Batch, ImageFolder, Source, Stream
from codeprior.training.engine import Engine, TorchEngine, full, started
from codeprior.training.loggers import Logger, TensorBoardLogger, TrackioLogger
from codeprior.training.loop import Finished, Stopped, train
from codeprior.training.stage import Stage
from codeprior.training.steps import NotFinite, checkpoint_activations, step_if_finite

__all__ = [
    "AccelerateEngine", "Batch", "Checkpoints", "DamagedCheckpoint", "Engine", "FabricEngine", "Finished",
    "ImageFolder", "Logger", "NotFinite", "Source", "Stage", "Stopped", "Stream", "TensorBoardLogger", "TorchEngine",
    "TrackioLogger", "checkpoint_activations", "full", "started", "step_if_finite", "train",
]  # fmt: skip

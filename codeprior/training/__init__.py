"""What the recipes share: the stage protocol, the loop, the order of the data, checkpoints, and what a run shows."""

from codeprior.training.adapters import AccelerateEngine, FabricEngine
from codeprior.training.averages import WeightAverage
from codeprior.training.checkpoint import Checkpoints, Saving
from codeprior.training.code_cache import CodeCache, Made, weights_sha256, write_codes
from codeprior.training.data import Batch, Source, Stream, UnreadableImages
from codeprior.training.engine import Engine, TorchEngine, full, started
from codeprior.training.index import Checked, Entry, check_images, read_index, write_index
from codeprior.training.loggers import Logger, TensorBoardLogger, TrackioLogger, WandbLogger
from codeprior.training.loop import Finished, Stopped, train
from codeprior.training.manifest import DamagedCheckpoint
from codeprior.training.memory import hold_where_it_fits, room_for_pictures
from codeprior.training.pixels import PixelFile, write_pixels
from codeprior.training.report import write_report
from codeprior.training.runs import FolderInUse, Settings
from codeprior.training.shards import ImageShards, Member, index_shards, write_shards
from codeprior.training.sources import ImageFolder, Joined, open_images
from codeprior.training.stage import Stage
from codeprior.training.steps import NotFinite, checkpoint_activations, step_if_finite

__all__ = [
    "AccelerateEngine", "Batch", "Checked", "Checkpoints", "CodeCache", "DamagedCheckpoint", "Engine", "Entry",
    "FabricEngine", "Finished", "FolderInUse", "ImageFolder", "ImageShards", "Joined", "Logger", "Made", "Member",
    "NotFinite", "PixelFile", "Saving", "Settings", "Source", "Stage", "Stopped", "Stream", "TensorBoardLogger",
    "TorchEngine", "TrackioLogger", "UnreadableImages", "WandbLogger", "WeightAverage", "check_images",
    "checkpoint_activations", "full", "hold_where_it_fits", "index_shards", "open_images", "read_index",
    "room_for_pictures", "started", "step_if_finite", "train", "weights_sha256", "write_codes", "write_index",
    "write_pixels", "write_report", "write_shards",
]  # fmt: skip

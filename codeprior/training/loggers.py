"""Further places where a run's figures and pictures go; the log of JSON lines is always written."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image as Pillow

from codeprior.extras import needed


class Logger(Protocol):
    """Somewhere figures and pictures go."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Takes the means since the last call."""
        ...

    def picture(self, step: int, path: Path) -> None:
        """Takes a preview that was just written."""
        ...

    def close(self) -> None:
        """Ends the run; called once, also when the run goes on later."""
        ...


class TensorBoardLogger:
    """Event files for TensorBoard.

    Args:
        folder: Where they go; `tensorboard --logdir` takes it, or the one above.

    Raises:
        ImportError: TensorBoard is not installed; `pip install codeprior[train]`.
    """

    def __init__(self, folder: str | Path):
        needed("tensorboard", who="TensorBoardLogger")
        from torch.utils.tensorboard.writer import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Takes the means since the last call, one scalar each."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def picture(self, step: int, path: Path) -> None:
        """Takes a preview that was just written."""
        self._writer.add_image("preview", np.array(Pillow.open(path)), step, dataformats="HWC")

    def close(self) -> None:
        """Writes everything out."""
        self._writer.close()


class TrackioLogger:
    """A trackio project, kept on this machine; `trackio show` looks at it.

    Args:
        project: Its name.
        name: The run's name; a run of that name goes on.
        config: JSON values that describe the run.

    Raises:
        ImportError: trackio is not installed; `pip install codeprior[loggers]`.
    """

    def __init__(self, project: str, *, name: str, config: Mapping[str, Any] | None = None):
        trackio = needed("trackio", who="TrackioLogger")
        self._trackio = trackio
        trackio.init(project=project, name=name, config=dict(config or {}), resume="allow")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Takes the means since the last call."""
        self._trackio.log(dict(values), step=step)

    def picture(self, step: int, path: Path) -> None:
        """Takes a preview that was just written."""
        self._trackio.log({"preview": self._trackio.Image(str(path))}, step=step)

    def close(self) -> None:
        """Ends the run."""
        self._trackio.finish()


class WandbLogger:
    """A project of Weights & Biases; with `WANDB_MODE=offline` nothing leaves this machine until `wandb sync`.

    Args:
        project: Its name.
        name: The run's name.
        folder: The run's folder; a run of the same folder goes on.
        config: JSON values that describe the run.

    Raises:
        ImportError: wandb is not installed; `pip install codeprior[loggers]`.
    """

    def __init__(self, project: str, *, name: str, folder: str | Path, config: Mapping[str, Any] | None = None):
        self._wandb: Any = needed("wandb", who="WandbLogger")
        number = hashlib.sha256(str(Path(folder).resolve()).encode()).hexdigest()[:16]
        self._run = self._wandb.init(
            project=project, name=name, id=number, dir=str(folder), config=dict(config or {}), resume="allow"
        )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Takes the means since the last call."""
        self._run.log(dict(values), step=step)

    def picture(self, step: int, path: Path) -> None:
        """Takes a preview that was just written."""
        self._run.log({"preview": self._wandb.Image(str(path))}, step=step)

    def close(self) -> None:
        """Ends the run."""
        self._run.finish()

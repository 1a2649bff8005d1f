"""What a run shows while it runs: a log with one JSON object a line, a progress line, and pictures."""

import json
import math
import sys
import time
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from einops import rearrange
from PIL import Image as Pillow
from torch import Tensor
from torch.nn import functional as F

from codeprior import files
from codeprior.images import to_array
from codeprior.shapes import Image


class Log:
    """A file of JSON objects, one per line, each with the step and the time; lines are appended, and cut on resume.

    Args:
        path: The file; made with its folder at the first line.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def write(self, step: int, **values: Any) -> None:
        """Adds a line.

        Args:
            step: Number of steps made.
            **values: JSON values; numbers that are not finite become strings, which plain JSON lacks.
        """
        line = {"step": step, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z")} | {k: _plain(v) for k, v in values.items()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with files.reopen(self.path, text=True) as file:
            file.write(json.dumps(line) + "\n")

    def read(self) -> list[dict[str, Any]]:
        """Gives the lines; a half-written last one, as a kill leaves it, is left out."""
        return list(_lines(self.path)) if self.path.exists() else []

    def cut(self, step: int) -> None:
        """Drops the lines of later steps, which a resumed run will write again."""
        lines = self.read()
        kept = [line for line in lines if line["step"] <= step]
        if self.path.exists():
            files.write(self.path, "".join(json.dumps(line) + "\n" for line in kept), overwrite=True)


class Means:
    """Running means of what updates report; they stay on the device until they are read."""

    def __init__(self, sums: Mapping[str, float] | None = None, counts: Mapping[str, int] | None = None):
        self.sums: dict[str, Any] = dict(sums or {})
        self.counts = dict(counts or {})

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> "Means":
        """Gives the means that continue from a `state`; a state of another kind is ignored."""
        return cls(state["sums"], state["counts"]) if {"sums", "counts"} <= set(state) else cls()

    def add(self, metrics: Mapping[str, Tensor]) -> None:
        """Adds one update's scalars."""
        for name, value in metrics.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.detach().double()
            self.counts[name] = self.counts.get(name, 0) + 1

    def values(self) -> dict[str, float]:
        """Gives the means since the last reset, each over the updates that reported it."""
        return {name: float(total) / self.counts[name] for name, total in self.sums.items()}

    def state(self) -> dict[str, Any]:
        """Gives the sums as JSON values, from which a resumed run goes on."""
        return {"sums": {name: float(total) for name, total in self.sums.items()}, "counts": self.counts}

    def reset(self) -> None:
        """Starts the means again."""
        self.sums, self.counts = {}, {}


class Progress:
    """The progress line: steps made, steps a second, and the time that remains; on the error stream.

    Args:
        steps: Where the run ends.
        start: Where it begins or goes on.
        every: Seconds between lines where the stream is a file; on a terminal the line is rewritten twice a second.
        shown: Whether it is shown at all.
    """

    def __init__(self, steps: int, *, start: int = 0, every: float = 15.0, shown: bool = True):
        self.steps, self.start, self.shown = steps, start, shown
        self._terminal = sys.stderr.isatty()
        self._every = 0.5 if self._terminal else every
        self._began = self._last = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning of this run."""
        return time.monotonic() - self._began

    def rate(self, step: int) -> float:
        """Steps a second since the beginning of this run."""
        return (step - self.start) / max(self.elapsed, 1e-9)

    def show(self, step: int, *, name: str, values: Mapping[str, float], force: bool = False) -> None:
        """Writes the line if it is time to.

        Args:
            step: Number of steps made.
            name: Whose line it is.
            values: Figures to end it with.
            force: Write it anyway.
        """
        if not self.shown or (time.monotonic() - self._last < self._every and not force):
            return
        self._last = time.monotonic()
        rate = self.rate(step)
        left = f"{_clock((self.steps - step) / rate)} left" if rate > 0 else "starting"
        figures = " · ".join(f"{key} {value:.4g}" for key, value in values.items())
        line = f"{name} {step}/{self.steps} · {rate:.2f} steps/s · {left} · {figures}"
        sys.stderr.write(f"\r\x1b[2K{line}" if self._terminal else f"{line}\n")
        if self._terminal and force:
            sys.stderr.write("\n")
        sys.stderr.flush()


def save_grid(path: str | Path, pictures: Mapping[str, Image]) -> None:
    """Writes pictures side by side, a column for each name and a row for each sample, as PNG.

    Args:
        path: The file; its folder is made.
        pictures: Unit, [0, 1], each `b 3 H W`; smaller ones are enlarged to the largest without smoothing.
    """
    size = max((picture.shape[-2:] for picture in pictures.values()), key=tuple)
    columns = [F.interpolate(picture.detach().float().cpu(), size=tuple(size)) for picture in pictures.values()]
    rows = min(len(column) for column in columns)
    grid = rearrange([column[:rows] for column in columns], "name b c H W -> c (b H) (name W)")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = BytesIO()
    Pillow.fromarray(to_array(grid.nan_to_num())).save(encoded, format="PNG")
    files.write(path, encoded.getvalue(), overwrite=True)


def _lines(path: Path) -> Any:
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) and type(found.get("step")) is int and isinstance(found.get("time"), str):
            yield found


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"

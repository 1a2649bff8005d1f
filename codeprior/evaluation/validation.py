"""Held-out faces with fixed damage, measured during training: the mean of each column, in seconds.

What is the same each time is computed once: the features of the clean faces, and the figures of the degraded faces.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from codeprior.evaluation.sets import TestSet
from codeprior.metrics.columns import columns as make_columns
from codeprior.metrics.fidelity import eight_bit
from codeprior.metrics.measures import Measure
from codeprior.shapes import Image

COLUMNS = ("psnr", "ssim", "perceptual", "identity")
"""The columns by default; `perceptual` uses MobileNetV2, `perceptual-lite0` a network that no loss uses."""

MARGIN = 1.0
"""A face is worse than its input from this loss of PSNR on, dB."""


class FixedFaces:
    """Clean faces and their fixed degraded versions, measured again and again during a training.

    Args:
        clean: `b 3 S S`, unit, [0, 1].
        degraded: `b 3 S S`, unit; None where only reconstructions of the clean faces are measured.
        columns: Names of `codeprior.metrics.column_names()`, the keys of the figures.
        batch: Faces at once.

    Raises:
        ValueError: The shapes differ, there is no face, or a column is unknown.
        FileNotFoundError: The weights of a column are not on this machine; the text says which package has them.

    Example:
        >>> import torch
        >>> faces = FixedFaces(torch.zeros(2, 3, 32, 32), torch.full((2, 3, 32, 32), 0.1), columns=("psnr",))
        >>> round(faces.figures(torch.full((2, 3, 32, 32), 0.2))["psnr"], 2)  # -20 log10(0.2)
        13.98
    """

    def __init__(
        self, clean: Image, degraded: Image | None = None, *, columns: Sequence[str] = COLUMNS, batch: int = 20
    ):
        if clean.ndim != 4 or clean.shape[1] != 3 or len(clean) < 1:
            raise ValueError(f"FixedFaces: expected clean faces b 3 S S, one or more, got {tuple(clean.shape)}.")
        if degraded is not None and degraded.shape != clean.shape:
            raise ValueError(
                f"FixedFaces: expected degraded faces of the clean ones' shape {tuple(clean.shape)}, got "
                f"{tuple(degraded.shape)}."
            )
        self.clean = eight_bit(clean.detach().cpu().float())
        self.degraded = None if degraded is None else degraded.detach().cpu().float()
        self.batch = batch
        self._measures = _measures(tuple(columns))
        self._looks: dict[str, list[Any]] = {}
        self._input: dict[str, Tensor] | None = None

    def __len__(self) -> int:
        """Gives the number of faces."""
        return len(self.clean)

    def figures(self, restored: Image) -> dict[str, float]:
        """Gives the mean of each column.

        Args:
            restored: `b 3 S S`, unit, in the order of the clean faces, on any device.

        Returns:
            Column to mean; with degraded faces and `psnr` among the columns also `worse`, the share of faces, [0, 1],
            whose PSNR is more than 1 dB below the degraded face's.

        Raises:
            ValueError: The shape is not the clean faces'.
        """
        values = self.values(restored)
        found = {name: float(column.mean()) for name, column in values.items()}
        if self.degraded is not None and "psnr" in values:
            found["worse"] = float((self.input_values()["psnr"] - values["psnr"] > MARGIN).double().mean())
        return found

    def values(self, restored: Image) -> dict[str, Tensor]:
        """Gives every column of every face, float64 `b`.

        Args:
            restored: `b 3 S S`, unit, in the order of the clean faces, on any device.

        Raises:
            ValueError: The shape is not the clean faces'.
        """
        if restored.shape != self.clean.shape:
            raise ValueError(
                f"FixedFaces: expected restored faces of the shape {tuple(self.clean.shape)}, got "
                f"{tuple(restored.shape)}."
            )
        restored = eight_bit(restored.detach().cpu().float())
        return {name: self._column(name, measure, restored) for name, measure in self._measures.items()}

    def input_figures(self) -> dict[str, float]:
        """Gives the figures of the degraded faces themselves; they are computed once.

        Raises:
            ValueError: There are no degraded faces.
        """
        return {name: float(column.mean()) for name, column in self.input_values().items()}

    def input_values(self) -> dict[str, Tensor]:
        """Gives every column of every degraded face, float64 `b`.

        Raises:
            ValueError: There are no degraded faces.
        """
        if self.degraded is None:
            raise ValueError("FixedFaces: there are no degraded faces; give them as the second argument.")
        if self._input is None:
            self._input = self.values(self.degraded)
        return self._input

    @torch.no_grad()
    def restored(self, restore: Callable[[Image], Image]) -> dict[str, float]:
        """Restores the degraded faces, or reconstructs the clean ones where there are none, and gives the figures.

        Args:
            restore: `b 3 S S`, unit, to the same.
        """
        shown = self.clean if self.degraded is None else self.degraded
        return self.figures(torch.cat([restore(part).cpu() for part in shown.split(self.batch)]))

    @torch.inference_mode()
    def _column(self, name: str, measure: Measure, restored: Image) -> Tensor:
        if measure.compare is None:
            return torch.cat([torch.as_tensor(measure.look(part)).double() for part in restored.split(self.batch)])
        if name not in self._looks:
            self._looks[name] = [measure.look(part) for part in self.clean.split(self.batch)]
        found = [
            measure.compare(measure.look(part), truth).double()
            for part, truth in zip(restored.split(self.batch), self._looks[name], strict=True)
        ]
        return torch.cat(found)


def fixed_faces(
    folder: str | Path, test_set: TestSet, *, size: int, columns: Sequence[str] = COLUMNS, batch: int = 20
) -> FixedFaces:
    """Gives the faces of a test set, degraded once: with `build`, the validation of a training in two lines.

    Args:
        folder: Where the clean faces are.
        test_set: Which, and how they are degraded.
        size: Side of the faces, pixels.
        columns: Names of `codeprior.metrics.column_names()`.
        batch: Faces at once.

    Raises:
        ValueError: A face cannot be read; a validation whose faces change from run to run compares nothing.
    """
    pairs = list(test_set.batches(folder, size=size, batch=batch))
    if gone := {name: reason for pair in pairs for name, reason in pair.gone.items()}:
        reasons = "; ".join(f"{name} {reason}" for name, reason in gone.items())
        raise ValueError(f"fixed_faces: expected every face of the set in {folder}, got {len(gone)} fewer: {reasons}.")
    clean, degraded = (torch.cat([getattr(pair, name) for pair in pairs]) for name in ("clean", "degraded"))
    return FixedFaces(clean, degraded, columns=columns, batch=batch)


def figures(restored: Image, clean: Image, *, columns: Sequence[str] = COLUMNS) -> dict[str, float]:
    """Gives the mean of each column once; `FixedFaces` keeps what would be computed again the next time.

    Args:
        restored: `b 3 S S`, unit, [0, 1].
        clean: `b 3 S S`, unit, [0, 1].
        columns: Names of `codeprior.metrics.column_names()`.

    Raises:
        ValueError: The shapes differ, there is no face, or a column is unknown.
    """
    return FixedFaces(clean, columns=columns).figures(restored)


def _measures(names: tuple[str, ...]) -> dict[str, Measure]:
    return {name: make_columns([name]).measures[0] for name in names}

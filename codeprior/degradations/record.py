"""What was drawn: a small table with one row for each sample, from which a degradation is replayed.

Noise fields are not kept, only the 64-bit keys that they follow from, so that a row stays under 256 bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codeprior import files


@dataclass(frozen=True, kw_only=True)
class Params:
    """The drawn values of an op for each sample of a batch.

    Args:
        values: Name to tensor, one row per sample, on the CPU. Names inside a chain are paths: `jpeg.quality`.
        sizes: Height and width, in pixels, of the image that each row was drawn for: `b 2`.
    """

    values: Mapping[str, Tensor]
    sizes: Tensor

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, rows: int | slice | Sequence[int] | Tensor) -> "Params":
        """Gives some of the rows, in the order asked for."""
        if isinstance(rows, int):
            if not -len(self) <= rows < len(self):
                raise IndexError(f"Params: expected a row below {len(self)}, got {rows}.")
            rows = [rows]
        if not isinstance(rows, slice):
            rows = torch.as_tensor(rows)
        return Params(values={name: value[rows] for name, value in self.values.items()}, sizes=self.sizes[rows])

    def __iter__(self):
        return (self[row] for row in range(len(self)))

    def describe(self, row: int = 0) -> dict[str, Any]:
        """Gives one row as plain Python values.

        Args:
            row: Which sample.

        Returns:
            Name to number or list of numbers.
        """
        return {name: value[row].tolist() for name, value in self.values.items()}

    def replace(self, changes: Mapping[str, Any] | None = None, **named: Any) -> "Params":
        """Gives the same draws with some values exchanged, for ablations.

        Args:
            changes: Name or path to new value: one value for all rows, or a row each.
            named: The same, for names that are Python words: `replace(quality=50)`.

        Raises:
            ValueError: No value or more than one value of that name was drawn.

        Example:
            >>> from codeprior.degradations import preset
            >>> drawn = preset("daefr").sample((2, 64, 64), torch.Generator().manual_seed(0))
            >>> drawn.replace(quality=50).values["jpeg.quality"].tolist()
            [50, 50]
        """
        values = dict(self.values)
        for name, new in {**(changes or {}), **named}.items():
            found = [name] if name in values else [path for path in values if path.endswith(f".{name}")]
            if len(found) != 1:
                known = ", ".join(found or values)
                raise ValueError(
                    f"Params.replace: expected one value called {name}, got {len(found)}; choose of {known}."
                )
            old = values[found[0]]
            values[found[0]] = torch.as_tensor(new).to(old.dtype).expand(old.shape).clone()
        return Params(values=values, sizes=self.sizes)

    @property
    def bytes_per_sample(self) -> int:
        """How many bytes a row takes."""
        columns = [*self.values.values(), self.sizes]
        return sum(column[:1].numel() * column.element_size() for column in columns)

    def save(self, path: str | Path, *, overwrite: bool = True) -> None:
        """Writes the rows to a safetensors file, whole or not at all.

        Args:
            path: Where to; an existing file is replaced in one step.
            overwrite: Replace an existing file.

        Raises:
            FileExistsError: Something has the name and `overwrite` is off.
        """
        from safetensors.torch import save

        tensors = {f"values/{name}": value.contiguous() for name, value in self.values.items()}
        files.write(path, save(tensors | {"sizes": self.sizes.contiguous()}), overwrite=overwrite)

    @staticmethod
    def load(path: str | Path) -> "Params":
        """Reads what `save` wrote.

        Args:
            path: A safetensors file.

        Raises:
            ValueError: The file holds something else.
        """
        from safetensors.torch import load_file

        tensors = load_file(path)
        if "sizes" not in tensors:
            raise ValueError(f"Params.load: expected a record of drawn values, got {path}, which holds none.")
        sizes = tensors.pop("sizes")
        return Params(values={name.removeprefix("values/"): value for name, value in tensors.items()}, sizes=sizes)


def concatenate(parts: Sequence[Params]) -> Params:
    """Gives one record with the rows of several, in order.

    Args:
        parts: Records drawn from the same op.

    Raises:
        ValueError: There is none, or they were drawn from different ops.
    """
    if not parts or any(part.values.keys() != parts[0].values.keys() for part in parts):
        raise ValueError("concatenate: expected one or more records drawn from the same op.")
    values = {name: torch.cat([part.values[name] for part in parts]) for name in parts[0].values}
    return Params(values=values, sizes=torch.cat([part.sizes for part in parts]))


Values = Mapping[str, np.ndarray]
"""Drawn values as arrays, one row per sample: what ops compute with."""


def part_of(values: Values, name: str) -> Values:
    """Gives the values below `name.`, without the prefix."""
    prefix = f"{name}."
    return {path[len(prefix) :]: value for path, value in values.items() if path.startswith(prefix)}


def parts_of(values: Values) -> dict[str, dict[str, np.ndarray]]:
    """Gives the values below each first name, without it."""
    parts: dict[str, dict[str, np.ndarray]] = {}
    for path, value in values.items():
        name, _, rest = path.partition(".")
        parts.setdefault(name, {})[rest] = value
    return parts


def below(name: str, values: Values) -> dict[str, np.ndarray]:
    """Gives the values under the path `name`."""
    return {f"{name}.{path}": value for path, value in values.items()}

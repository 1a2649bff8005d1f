"""What has been measured already: one line per image and method, so that an interrupted evaluation goes on.

A line counts only for the same files (by checksum) and the same columns (by provenance); a line that a crash cut short
is ignored. Features of set figures such as FID are kept with it.
"""

import base64
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from codeprior import files


class Entry(NamedTuple):
    """What is kept of one image of a method.

    Attributes:
        values: Column to value; NaN where there is none.
        missing: Why some columns have no value; empty where all have.
        features: Of the set network, where there is one.
        arrays: Whatever else was seen of the image, by name, such as the identity embedding.
    """

    values: dict[str, float]
    missing: str = ""
    features: Float[Tensor, " d"] | None = None
    arrays: Mapping[str, Float[Tensor, "..."]] = MappingProxyType({})


class Journal:
    """A growing file of entries.

    Args:
        path: The file; made where it is not there. Lines made under another key are dropped.
        key: What the values depend on besides the images, JSON values.
        fresh: Drop all lines that are there.

    Raises:
        FileExistsError: Something that is no journal has the name.
        OSError: The file cannot be written.
    """

    def __init__(self, path: str | Path, *, key: Mapping[str, Any], fresh: bool = False):
        path = Path(path)
        self._entries: dict[tuple[str, str, str], Entry] = {}
        written = json.dumps(key, sort_keys=True)
        lines = _lines(path)
        kept = [line for line in lines[1:] if self._take(line)] if not fresh and lines and lines[0] == written else []
        files.write(path, "".join(f"{line}\n" for line in [written, *kept]), overwrite=True)
        self._file = files.reopen(path, text=True)

    def __enter__(self) -> "Journal":
        """Gives the journal itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Closes the file."""
        self._file.close()

    def find(self, method: str, image: str, stamp: str) -> Entry | None:
        """Gives the entry of an image, or None.

        Args:
            method: Whose image.
            image: Its name.
            stamp: What identifies the files, such as their checksums.
        """
        return self._entries.get((method, image, stamp))

    def add(self, method: str, image: str, *, stamp: str, entry: Entry) -> None:
        """Keeps an entry, on disk before this returns.

        Args:
            method: Whose image.
            image: Its name.
            stamp: What identifies the files.
            entry: What was measured.
        """
        self._entries[method, image, stamp] = entry
        line: dict[str, Any] = {"method": method, "image": image, "stamp": stamp, "missing": entry.missing}
        # JSON has neither infinities nor NaN
        line["values"] = {name: value if math.isfinite(value) else str(value) for name, value in entry.values.items()}
        if entry.features is not None:
            line["features"] = _written(entry.features)
        if entry.arrays:
            line["arrays"] = {name: [list(array.shape), _written(array)] for name, array in entry.arrays.items()}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def _take(self, line: str) -> bool:
        try:
            row = json.loads(line)
            features, arrays = row.get("features"), row.get("arrays", {})
            self._entries[row["method"], row["image"], row["stamp"]] = Entry(
                {name: float(value) for name, value in row["values"].items()},
                row["missing"],
                None if features is None else _read(features),
                {name: _read(text).view(shape) for name, (shape, text) in arrays.items()},
            )
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError):  # RecursionError is one too
            return False
        return True


def _written(array: Tensor) -> str:
    return base64.b64encode(array.float().cpu().numpy().astype("<f4").tobytes()).decode()


def _read(text: str) -> Tensor:
    return torch.from_numpy(np.frombuffer(base64.b64decode(text), "<f4").copy())


def _lines(path: Path) -> list[str]:
    """Gives the lines of a journal, none where there is no file, and refuses a file that is something else."""
    if not os.path.lexists(path):
        return []
    with files.opened(path) as file:
        lines = file.read().decode(errors="replace").splitlines()
    try:
        known = not lines or (isinstance(json.loads(lines[0]), dict) and all('"stamp"' in line for line in lines[1:2]))
    except (ValueError, TypeError, RecursionError):
        known = False
    if not known:
        raise FileExistsError(f"{path} exists and is no journal of an evaluation; it is kept, give another folder.")
    return lines

"""What has been measured already: one line an image and method, so that an interrupted evaluation goes on.

A line counts only for the same files (by checksum) and the same columns (by provenance); a line that a crash cut short
is ignored. Features of set figures such as FID are kept with it.
"""

import base64
import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


class Entry(NamedTuple):
    """What is kept of one image of a method.

    Attributes:
        values: Column to value; not a number where there is none.
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

    Raises:
        OSError: The file cannot be written.
    """

    def __init__(self, path: str | Path, *, key: Mapping[str, Any]):
        path = Path(path)
        self._entries: dict[tuple[str, str, str], Entry] = {}
        written = json.dumps(key, sort_keys=True)
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        kept = [line for line in lines[1:] if self._take(line)] if lines and lines[0] == written else []
        path.write_text("".join(f"{line}\n" for line in [written, *kept]), encoding="utf-8")
        self._file = path.open("a", encoding="utf-8")

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
        # JSON knows neither infinities nor numbers that are none
        line["values"] = {name: value if math.isfinite(value) else str(value) for name, value in entry.values.items()}
        if entry.features is not None:
            line["features"] = _written(entry.features)
        if entry.arrays:
            line["arrays"] = {name: [list(array.shape), _written(array)] for name, array in entry.arrays.items()}
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
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
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError):
            return False
        return True


def _written(array: Tensor) -> str:
    return base64.b64encode(array.float().cpu().numpy().astype("<f4").tobytes()).decode()


def _read(text: str) -> Tensor:
    return torch.from_numpy(np.frombuffer(base64.b64decode(text), "<f4").copy())

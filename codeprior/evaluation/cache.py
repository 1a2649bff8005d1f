"""Degraded faces on disk, so that a face is degraded at 512 px once, and not again for every method.

A face is found by all that it depends on: the checksum of the clean picture, the chain, the drawn values and the size.
It is kept as 8-bit levels in a PNG, without loss; a face whose values are not 8-bit levels is not kept.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from codeprior.evaluation.faces import Face
from codeprior.images import from_levels, to_array
from codeprior.metrics.fidelity import eight_bit
from codeprior.photos import files
from codeprior.shapes import Image

_FORMAT = "codeprior degraded face 1"


class DegradedCache:
    """Degraded faces by what they depend on.

    Args:
        folder: Where they are kept; made where it is not there. It may be deleted at any time.

    Attributes:
        found: How many faces were read instead of degraded.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.found = 0

    def get(self, key: str) -> Image | None:
        """Gives a degraded face, `1 3 S S`, unit, or None where it is not there or cannot be read.

        Args:
            key: A key of `cache_keys`.
        """
        path = self._path(key)
        if not path.is_file():
            return None
        try:
            pixels = files.read(path).pixels
        except files.PhotoError:
            return None
        self.found += 1
        return from_levels(pixels)[None]

    def put(self, key: str, image: Image) -> None:
        """Keeps a degraded face if its values are 8-bit levels.

        Args:
            key: A key of `cache_keys`.
            image: `1 3 S S`, unit.
        """
        if torch.equal(image, eight_bit(image)):
            path = self._path(key)
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write(path, to_array(image[0]), overwrite=True)

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.png"


def cache_keys(faces: Sequence[Face], stamps: dict[str, str], *, condition: str, size: int) -> dict[str, str]:
    """Gives the key under which each degraded face is kept, by the face's name.

    Args:
        faces: Which.
        stamps: What identifies each degraded face, by its name.
        condition: The degradation, in full.
        size: Side at which the faces are degraded, pixels.
    """
    texts = {face.name: json.dumps([_FORMAT, condition, size, face.sha256, stamps[face.name]]) for face in faces}
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}

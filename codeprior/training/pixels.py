"""Images as one file of raw pixels, decoded once: fast enough for eight GPUs, and no CPU core has to decode.

FFHQ at 512 px is 55 GB and stays in the page cache of a large machine.
"""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from codeprior import files
from codeprior.training.data import Source

PIXELS = "pixels.u8"
"""Name of the file of pixels, in its folder."""
_FACTS = "pixels.json"


class PixelFile:
    """The images of a file of raw pixels, mapped into memory.

    Args:
        folder: As written by `write_pixels`.

    Raises:
        ValueError: It is no such folder, or the file of pixels has another length than was written.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        try:
            self.facts = json.loads((self.folder / _FACTS).read_text())
            count, self.size, self.fingerprint = (self.facts[key] for key in ("count", "size", "sha256"))
            if type(count) is not int or type(self.size) is not int or not isinstance(self.fingerprint, str):
                raise ValueError("its facts are no counts")
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(
                f"PixelFile: {self.folder} has no {_FACTS}; make it with `codeprior data pixels`."
            ) from error
        path, expected = self.folder / PIXELS, count * 3 * self.size**2
        found = path.stat().st_size if path.is_file() else 0
        if found != expected or not count:
            raise ValueError(f"PixelFile: expected {expected} bytes in {path}, got {found}; make it again.")
        self._map = np.memmap(path, np.uint8, "r", shape=(count, 3, self.size, self.size))

    def __len__(self) -> int:
        return len(self._map)

    def image(self, index: int) -> UInt8[Tensor, "3 H W"]:
        """Gives one image, RGB, 8-bit levels."""
        return torch.from_numpy(np.array(self._map[index]))

    def verify(self) -> None:
        """Reads everything once.

        Raises:
            ValueError: The pixels are not those that were written.
        """
        digest = hashlib.sha256()
        for image in self._map:
            digest.update(image)
        if digest.hexdigest() != self.fingerprint:
            raise ValueError(f"PixelFile: {self.folder / PIXELS} is not as it was written; make it again.")


def write_pixels(source: Source, folder: str | Path) -> Path:
    """Decodes every image of a source into a file of raw pixels, whole or not at all.

    Args:
        source: Images of one size.
        folder: Where the pixels and a few facts about them go; made if needed.

    Returns:
        The folder.

    Raises:
        FileExistsError: There are pixels in it already.
        ValueError: An image cannot be used; the text names it.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(folder / PIXELS):
        raise FileExistsError(f"write_pixels: {folder / PIXELS} exists already and is kept; choose another folder.")
    if os.path.lexists(folder / _FACTS) and not _interrupted(folder / _FACTS):
        raise FileExistsError(f"write_pixels: {folder / _FACTS} exists already and is kept; choose another folder.")
    digest, size = hashlib.sha256(), 0
    with files.writing(folder / PIXELS) as file:
        for index in range(len(source)):
            image = source.image(index)
            size, content = image.shape[-1], image.numpy().tobytes()
            digest.update(content)
            file.write(content)
        facts = {"count": len(source), "size": size, "sha256": digest.hexdigest(), "source": source.fingerprint}
        files.write(folder / _FACTS, json.dumps(facts) + "\n", overwrite=True)
    return folder


def _interrupted(path: Path) -> bool:
    """Says whether the facts are those of a run that ended before its pixels had their name."""
    try:
        return not path.is_symlink() and set(json.loads(path.read_text())) == {"count", "size", "sha256", "source"}
    except (OSError, ValueError, TypeError, RecursionError):
        return False

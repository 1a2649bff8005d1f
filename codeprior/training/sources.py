"""Images in folders, and the one call that opens whatever holds images: folders, shards, raw pixels, or several."""

import hashlib
import json
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from codeprior import files as files_on_disk
from codeprior.training.data import Source
from codeprior.training.index import INDEX, read_index
from codeprior.training.pictures import fitted
from codeprior.training.pixels import PIXELS, PixelFile
from codeprior.training.shards import SHARDS, ImageShards

_SUFFIXES = set(files_on_disk.PICTURES)
_WHOLE = 2**30  # bytes of a folder up to which all of them are compared
_PIECES, _PIECE = 16, 256  # of each file of a larger one


class ImageFolder:
    """Square photographs of a folder, or of a list of files, at one size.

    Args:
        files: A folder, or the files themselves. Of a folder with a list (`codeprior data check`), the listed images;
            of one without, everything below it by order of name.
        size: Height and width, pixels. Files of another size are resized (antialiased bicubic).
        cached: Whether everything is decoded once and held in memory, `count · 3 · size²` bytes.

    Raises:
        ValueError: There is no image, or some file is not a square image that can be read; the text names them.
    """

    def __init__(self, files: str | Path | Sequence[str | Path], *, size: int, cached: bool = True):
        self._digests: list[str] | None = None
        if isinstance(files, (str, Path)) and (Path(files) / INDEX).exists():
            entries = read_index(Path(files) / INDEX)
            self.files = [Path(files) / entry.name for entry in entries]
            self._digests = [entry.sha256 for entry in entries]
            listing = [(entry.name, entry.sha256) for entry in entries]
        elif isinstance(files, (str, Path)):
            root = Path(files)
            self.files = sorted(p for p in root.rglob("*") if p.suffix.lower() in _SUFFIXES and p.is_file())
            listing = [(str(path.relative_to(root)), path.stat().st_size) for path in self.files]
        else:
            self.files = [Path(path) for path in files]
            listing = [(path.name, path.stat().st_size) for path in self.files]
        if not self.files:
            raise ValueError(f"ImageFolder: expected images ({', '.join(sorted(_SUFFIXES))}), found none in {files!s}.")
        self.size = size
        self.fingerprint = hashlib.sha256(json.dumps([size, listing]).encode()).hexdigest()
        self._cache: Tensor | None = None
        if cached:
            self.hold()

    @property
    def decoded_bytes(self) -> int:
        """How many bytes the decoded images take."""
        return len(self.files) * 3 * self.size**2

    def hold(self) -> None:
        """Decodes everything once and holds it in memory.

        Raises:
            ValueError: Some file is not a square image that can be read; the text names them.
        """
        if self._cache is None:
            self._cache = self._decode_all()

    def __len__(self) -> int:
        return len(self.files)

    @property
    def contents(self) -> str:
        """A digest of the bytes of files that are in no list.

        Note:
            In folders of more than 1 GiB only 16 pieces of each file are read, spread from its beginning to its end. A
            change between them is noticed only where there is a list (`codeprior data check`).
        """
        digest = hashlib.sha256()
        unknown = self.files if self._digests is None else []
        whole = sum(path.stat().st_size for path in unknown) <= _WHOLE
        for path in unknown:
            digest.update((files_on_disk.sha256(path) if whole else _pieces(path)).encode())
        return digest.hexdigest()

    def image(self, index: int) -> UInt8[Tensor, "3 H W"]:
        """Gives one image, RGB, 8-bit levels.

        Raises:
            ValueError: It cannot be read, or is not the one that was listed.
        """
        return self._read(index) if self._cache is None else self._cache[index]

    def _read(self, index: int) -> UInt8[Tensor, "3 H W"]:
        from codeprior.photos.files import read_bytes

        content = read_bytes(self.files[index])
        if self._digests and hashlib.sha256(content).hexdigest() != self._digests[index]:
            raise ValueError(f"{self.files[index]} is not the image that was listed; check the folder again")
        return fitted(content, str(self.files[index]), self.size)

    def _decode_all(self) -> UInt8[Tensor, "n 3 H W"]:
        cache = torch.empty(len(self.files), 3, self.size, self.size, dtype=torch.uint8)
        refused = []
        for number in range(len(self.files)):
            try:
                cache[number] = self._read(number)
            except (OSError, ValueError) as error:
                refused.append(str(error))
        if refused:
            raise ValueError("ImageFolder: these files cannot be used; remove them.\n" + "\n".join(refused))
        return cache


class Joined:
    """Several sources, one after the other.

    Args:
        sources: Images of one size.
    """

    def __init__(self, sources: Sequence[Source]):
        self.sources = list(sources)
        self._ends = list(accumulate(map(len, self.sources)))
        self.fingerprint = hashlib.sha256("\n".join(one.fingerprint for one in self.sources).encode()).hexdigest()

    @property
    def contents(self) -> str:
        """A digest of the bytes of files that are in no list."""
        return "".join(getattr(one, "contents", "") for one in self.sources)

    def __len__(self) -> int:
        return self._ends[-1]

    def image(self, index: int) -> UInt8[Tensor, "3 H W"]:
        """Gives one image, RGB, 8-bit levels."""
        number = int(np.searchsorted(self._ends, index, side="right"))
        return self.sources[number].image(index - (self._ends[number - 1] if number else 0))


def open_images(folders: Sequence[str | Path], *, size: int, cached: bool = False) -> Source:
    """Opens folders of images by what they hold: shards, raw pixels, a list, or files.

    Args:
        folders: At least one. Those without a list of any kind are read as one folder.
        size: Height and width, pixels.
        cached: Whether folders of files are decoded once and held in memory.

    Raises:
        ValueError: A folder holds no images, or raw pixels of another size; the text names it.
    """
    opened: list[Source] = []
    plain: list[Path] = []
    for folder in map(Path, folders):
        if (folder / SHARDS).exists():
            opened.append(ImageShards(folder, size=size))
        elif (folder / PIXELS).exists():
            opened.append(_pixels(folder, size))
        elif (folder / INDEX).exists():
            opened.append(ImageFolder(folder, size=size, cached=cached))
        else:
            plain.append(folder)
    if plain:
        files = [path for folder in plain for path in sorted(folder.rglob("*")) if path.suffix.lower() in _SUFFIXES]
        if not files:
            raise ValueError(
                f"open_images: no pictures in {', '.join(map(str, plain))}; name folders of square images."
            )
        opened.insert(0, ImageFolder(files, size=size, cached=cached))
    return opened[0] if len(opened) == 1 else Joined(opened)


def _pieces(path: Path) -> str:
    digest = hashlib.sha256()
    with files_on_disk.opened(path) as file:
        last = max(0, file.seek(0, 2) - _PIECE)
        for number in range(_PIECES):
            file.seek(last * number // (_PIECES - 1))
            digest.update(file.read(_PIECE))
    return digest.hexdigest()


def _pixels(folder: Path, size: int) -> PixelFile:
    found = PixelFile(folder)
    if found.size != size:
        raise ValueError(f"open_images: {folder} holds pixels of {found.size}×{found.size}, asked for {size}×{size}.")
    return found

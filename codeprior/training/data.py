"""Photographs for training: files decoded to 8-bit pixels, and the endless stream of batches over them.

Images travel as uint8; the stage turns them into floats and degrades them on its device, with one seed per sample, so
that the same sample looks the same on whatever rank or worker it is handled.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Int, UInt8
from PIL import Image as Pillow
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from codeprior import distributed
from codeprior.training.order import slots

_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


class Batch(NamedTuple):
    """The samples of one step on one rank."""

    clean: UInt8[Tensor, "b 3 H W"]
    """RGB, 8-bit levels, mirrored already where `flipped` says so."""
    keys: Int[Tensor, " b"]
    """A seed for everything random about each sample, in [0, 2⁶³); for degradations."""
    indices: Int[Tensor, " b"]
    """Which image of the source."""
    flipped: Bool[Tensor, " b"]
    """Whether the image is mirrored."""

    def to(self, device: torch.device | str) -> "Batch":
        """Gives the batch on a device."""
        return Batch(*(field.to(device, non_blocking=True) for field in self))

    def first(self, count: int) -> "Batch":
        """Gives the batch of the first `count` samples."""
        return Batch(*(field[:count] for field in self))


class Source(Protocol):
    """Images by number; what a `Stream` is made over."""

    @property
    def fingerprint(self) -> str:
        """Changes when the images do."""
        ...

    def __len__(self) -> int:
        """Counts the images."""
        ...

    def image(self, index: int) -> UInt8[Tensor, "3 H W"]:
        """Gives one image, RGB, 8-bit levels."""
        ...


class ImageFolder:
    """Square photographs of a folder, or of a list of files, at one size.

    Args:
        files: A folder, searched through with everything below it, or the files themselves. A folder's files are
            taken in order of name.
        size: Height and width, pixels. Files of another size are resized (antialiased bicubic).
        cached: Whether everything is decoded once and held in memory, `count · 3 · size²` bytes.

    Raises:
        ValueError: There is no image, or some file is not a square image that can be read; the text names them.
    """

    def __init__(self, files: str | Path | Sequence[str | Path], *, size: int, cached: bool = True):
        if isinstance(files, (str, Path)):
            root = Path(files)
            self.files = sorted(p for p in root.rglob("*") if p.suffix.lower() in _SUFFIXES and p.is_file())
            names = [str(path.relative_to(root)) for path in self.files]
        else:
            self.files = [Path(path) for path in files]
            names = [path.name for path in self.files]
        if not self.files:
            raise ValueError(f"ImageFolder: expected images ({', '.join(sorted(_SUFFIXES))}), found none in {files!s}.")
        self.size = size
        listing = [(name, path.stat().st_size) for name, path in zip(names, self.files, strict=True)]
        self.fingerprint = hashlib.sha256(json.dumps([size, listing]).encode()).hexdigest()
        self._cache = self._decode_all() if cached else None

    def __len__(self) -> int:
        return len(self.files)

    def image(self, index: int) -> UInt8[Tensor, "3 H W"]:
        """Gives one image, RGB, 8-bit levels."""
        return _read(self.files[index], self.size) if self._cache is None else self._cache[index]

    def _decode_all(self) -> UInt8[Tensor, "n 3 H W"]:
        cache = torch.empty(len(self.files), 3, self.size, self.size, dtype=torch.uint8)
        refused = []
        for number, path in enumerate(self.files):
            try:
                cache[number] = _read(path, self.size)
            except (OSError, ValueError, Pillow.DecompressionBombError) as error:
                refused.append(f"{path}: {error}")
        if refused:
            raise ValueError("ImageFolder: these files cannot be used; remove them.\n" + "\n".join(refused))
        return cache


class Stream:
    """The endless, shuffled stream of batches over a source: which batch comes at a step depends on nothing else.

    Args:
        source: Images by number.
        batch: Samples in a step over all ranks together; a multiple of the number of ranks.
        seed: Chooses the order, the mirroring and the samples' keys.
        flip: Whether each image is mirrored with probability one half.
        workers: Loader processes; 0 decodes in this one.

    Raises:
        ValueError: `batch` cannot be shared evenly among the ranks.

    Example:
        ```python
        images = ImageFolder("faces", size=128)
        stream = Stream(images, batch=16, seed=0)
        stream.at(1000).clean.shape  # 16 3 128 128
        ```
    """

    def __init__(self, source: Source, *, batch: int, seed: int = 0, flip: bool = True, workers: int = 0):
        if batch < 1 or batch % distributed.world():
            raise ValueError(
                f"Stream: expected a batch that {distributed.world()} ranks share evenly, got {batch}; "
                "choose a multiple of the number of ranks."
            )
        self.source, self.batch, self.seed, self.flip, self.workers = source, batch, seed, flip, workers

    @property
    def fingerprint(self) -> dict[str, int | str | bool]:
        """What the stream depends on; a checkpoint keeps it, and a run does not resume on another stream."""
        return {"source": self.source.fingerprint, "batch": self.batch, "seed": self.seed, "flip": self.flip}

    def at(self, step: int) -> Batch:
        """Gives this rank's samples of a step."""
        return self.share(step, rank=distributed.rank(), world=distributed.world())

    def share(self, step: int, *, rank: int, world: int) -> Batch:
        """Gives the samples of a step that fall to one of `world` ranks; the ranks' shares join to the whole batch."""
        mine = self.batch // world
        start = step * self.batch + rank * mine
        chosen = slots(start, start + mine, count=len(self.source), seed=self.seed)
        flipped = chosen.flipped & np.bool_(self.flip)
        images = [self.source.image(int(index)) for index in chosen.indices]
        images = [image.flip(-1) if mirror else image for image, mirror in zip(images, flipped, strict=True)]
        return Batch(
            torch.stack(images),
            torch.from_numpy(chosen.keys),
            torch.from_numpy(chosen.indices),
            torch.from_numpy(flipped),
        )

    def between(self, start: int, stop: int) -> Iterator[Batch]:
        """Gives this rank's batches of the steps `start` to `stop`, read ahead where there are workers."""
        if self.workers == 0:
            yield from map(self.at, range(start, stop))
            return
        # a private generator: making an iterator would otherwise draw from torch's global one
        yield from DataLoader(
            _Steps(self, start, stop), batch_size=None, num_workers=self.workers, generator=torch.Generator()
        )


class _Steps(Dataset[Batch]):
    def __init__(self, stream: Stream, start: int, stop: int):
        self.stream, self.start, self.stop = stream, start, stop
        # asked here, because a loader process belongs to no process group
        self.rank, self.world = distributed.rank(), distributed.world()

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, index: int) -> Batch:
        return self.stream.share(self.start + index, rank=self.rank, world=self.world)


def _read(path: Path, size: int) -> UInt8[Tensor, "3 H W"]:
    with Pillow.open(path) as file:
        picture = file.convert("RGB")
    if picture.width != picture.height:
        raise ValueError(f"expected a square image, got {picture.width}×{picture.height}")
    if picture.size != (size, size):
        picture = picture.resize((size, size), Pillow.Resampling.BICUBIC)
    return rearrange(torch.from_numpy(np.array(picture)), "H W c -> c H W").contiguous()

"""The endless stream of batches over a source of images: which batch comes at a step follows from the step alone.

Images are kept as uint8. The stage turns them into floats and degrades them, on its device or when they are read, with
a seed for each sample, so that a sample looks the same on every rank and worker.
"""

import warnings
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from codeprior import distributed
from codeprior.training.order import Slots, slots


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
    degraded: Float[Tensor, "b 3 S S"] | None = None
    """What `Stream(prepare=…)` made of the images when they were read; None without it."""

    def to(self, device: torch.device | str) -> "Batch":
        """Gives the batch with its images on a device.

        Keys, numbers and whether images are mirrored stay on the CPU, where damage is drawn and windows are placed from
        them: reading them back would wait for the device at every step.
        """
        degraded = None if self.degraded is None else self.degraded.to(device, non_blocking=True)
        return self._replace(clean=self.clean.to(device, non_blocking=True), degraded=degraded)

    def pin_memory(self) -> "Batch":
        """Gives the batch in page-locked memory, from which a GPU copies while it computes."""
        return self._each(Tensor.pin_memory)

    def first(self, count: int) -> "Batch":
        """Gives the batch of the first `count` samples."""
        return self._each(lambda field: field[:count])

    def parts(self, count: int) -> "list[Batch]":
        """Gives the batch in equal parts, in order.

        Args:
            count: How many, at least 1.

        Raises:
            ValueError: The samples cannot be shared evenly.
        """
        samples = len(self.keys)
        if count < 1 or samples % count:
            raise ValueError(
                f"Batch: {samples} samples a rank cannot be worked on in {count} equal parts; choose a divisor of "
                f"{samples}."
            )
        size = samples // count
        return [self._each(lambda field, at=at: field[at : at + size]) for at in range(0, samples, size)]

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        return Batch(*(None if field is None else change(field) for field in self))  # pyright: ignore[reportArgumentType]


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


class UnreadableImages(RuntimeError):
    """Too many images could not be read when their turn came."""


class Stream:
    """The endless, shuffled stream of batches over a source: which batch comes at a step follows from the step alone.

    Args:
        source: Images by number.
        batch: Samples in a step over all ranks together; a multiple of the number of ranks.
        seed: Chooses the order, the mirroring and the samples' keys.
        flip: Whether each image is mirrored with probability one half.
        workers: Loader processes; 0 decodes in this one.
        prepare: Called with each batch where it is read, in a loader process where there are some; for work that
            follows from the batch's keys, such as degradations. For a sample it must give the same in any batch.
        block: Count of images that lie together, such as those of a shard; the order then goes through groups of 16
            blocks, so that a disk or a network store reads long pieces. 0 shuffles everything.
        pinned: Whether batches lie in page-locked memory, from which a GPU copies them while it computes.

    Raises:
        ValueError: `batch` cannot be shared evenly among the ranks.

    Note:
        An image that cannot be read when its turn comes is replaced by one of the next that can, always by the same
        one, with a warning; the order of all others does not change. Too many such images raise `UnreadableImages`.

    Example:
        ```python
        images = ImageFolder("faces", size=128)
        stream = Stream(images, batch=16, seed=0)
        stream.at(1000).clean.shape  # 16 3 128 128
        ```
    """

    def __init__(
        self,
        source: Source,
        *,
        batch: int,
        seed: int = 0,
        flip: bool = True,
        workers: int = 0,
        prepare: Callable[[Batch], Batch] | None = None,
        block: int = 0,
        pinned: bool = False,
    ):
        if batch < 1 or batch % distributed.world():
            raise ValueError(
                f"Stream: expected a batch that {distributed.world()} ranks share evenly, got {batch}; "
                "choose a multiple of the number of ranks."
            )
        self.source, self.batch, self.seed, self.flip, self.workers = source, batch, seed, flip, workers
        self.prepare, self.block, self.pinned = prepare, block, pinned
        self._unreadable: set[int] = set()

    @property
    def fingerprint(self) -> dict[str, int | str | bool]:
        """What the stream depends on; a checkpoint keeps it, and a run does not resume on another stream."""
        facts = {"source": self.source.fingerprint, "batch": self.batch, "seed": self.seed, "flip": self.flip}
        facts |= {"bytes": self._contents} if self._contents else {}
        return facts | ({"block": self.block} if self.block else {})

    @cached_property
    def _contents(self) -> str:
        return getattr(self.source, "contents", "")

    def at(self, step: int) -> Batch:
        """Gives this rank's samples of a step."""
        return self.share(step, rank=distributed.rank(), world=distributed.world())

    def share(self, step: int, *, rank: int, world: int) -> Batch:
        """Gives the samples of a step for one of `world` ranks; the shares of all ranks are the whole batch."""
        chosen = self._slots(step, rank, world)
        flipped = chosen.flipped & np.bool_(self.flip)
        found = [self._image(int(index)) for index in chosen.indices]
        images = [image.flip(-1) if mirror else image for (_, image), mirror in zip(found, flipped, strict=True)]
        batch = Batch(
            torch.stack(images),
            torch.from_numpy(chosen.keys),
            torch.tensor([index for index, _ in found]),
            torch.from_numpy(flipped),
        )
        return batch if self.prepare is None else self.prepare(batch)

    def between(self, start: int, stop: int) -> Iterator[Batch]:
        """Gives this rank's batches of the steps `start` to `stop`, read ahead where there are workers.

        Raises:
            UnreadableImages: More than one in a thousand of the images, and more than one, could not be read.
        """
        rank, world = distributed.rank(), distributed.world()
        batches = (batch.pin_memory() if self.pinned else batch for batch in map(self.at, range(start, stop)))
        if self.workers:
            # a generator of its own: otherwise making an iterator would draw from torch's global one
            batches = DataLoader(
                _Steps(self, start, stop), batch_size=None, num_workers=self.workers, generator=torch.Generator(),
                pin_memory=self.pinned,
            )  # fmt: skip
        for step, batch in zip(range(start, stop), batches, strict=True):
            wanted = self._slots(step, rank, world).indices
            self._unreadable |= set(wanted[wanted != batch.indices.numpy()].tolist())
            if len(self._unreadable) > max(1, len(self.source) // 1000):
                raise UnreadableImages(
                    f"Stream: {len(self._unreadable)} of {len(self.source)} images could not be read: numbers "
                    f"{sorted(self._unreadable)}; the warnings say why. Look with `codeprior data check`."
                )
            yield batch

    def _slots(self, step: int, rank: int, world: int) -> Slots:
        mine = self.batch // world
        start = step * self.batch + rank * mine
        return slots(start, start + mine, count=len(self.source), seed=self.seed, block=self.block)

    def _image(self, index: int) -> tuple[int, UInt8[Tensor, "3 H W"]]:
        failures = []
        for attempt in range(min(8, len(self.source))):
            number = (index + attempt) % len(self.source)
            try:
                return number, self.source.image(number)
            except (OSError, ValueError) as error:
                failures.append(f"{number}: {error}")
                warnings.warn(f"image {number} cannot be read and is replaced: {error}", RuntimeWarning, stacklevel=2)
        raise UnreadableImages("Stream: images one after the other could not be read.\n" + "\n".join(failures))


class _Steps(Dataset[Batch]):
    def __init__(self, stream: Stream, start: int, stop: int):
        self.stream, self.start, self.stop = stream, start, stop
        # asked here, because a loader process belongs to no process group
        self.rank, self.world = distributed.rank(), distributed.world()

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, index: int) -> Batch:
        return self.stream.share(self.start + index, rank=self.rank, world=self.world)

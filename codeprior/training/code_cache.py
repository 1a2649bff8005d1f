"""Target codes of every image, computed once: the encoder is frozen, so they are the same at every step.

Each image has two maps, one of them mirrored: with 16×16 codes 1 KiB, 72 MB for FFHQ. The file records what it was made
from; at the start of a run some images are encoded again, and a cache that disagrees is refused.
"""

import hashlib
import json
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8, UInt16
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from codeprior import distributed, files
from codeprior.shapes import Indices
from codeprior.training.data import Source
from codeprior.training.order import slots

Encode = Callable[[UInt8[Tensor, "b 3 H W"]], Indices]
"""From clean images, RGB, 8-bit levels, to the indices of their codes."""
_KEY = "codeprior.codes"


class Made(NamedTuple):
    """What the codes of a cache depend on; all of it must agree before one is used."""

    encoder: str
    """sha256 of the weights of the encoder, see `weights_sha256`."""
    codebook: str
    """sha256 of the codes."""
    images: str
    """Fingerprint of the source."""
    preprocessing: str
    """What happens to the pixels before the encoder, in words and numbers."""


class CodeCache:
    """The codes of all images of a source, from a file.

    Args:
        path: As written by `write_codes`.
        made: What the codes must have been made from.

    Raises:
        ValueError: The file is no cache, was damaged, or was made from something else; the text says what.
    """

    def __init__(self, path: str | Path, made: Made):
        self.path = Path(path)
        try:
            with safe_open(self.path, "pt") as file:
                facts = json.loads((file.metadata() or {})[_KEY])
                self._codes = file.get_tensor("codes")
            digest, written = facts["sha256"], dict(facts["made"])
        except (OSError, KeyError, ValueError, TypeError, RecursionError, SafetensorError) as error:
            raise ValueError(f"CodeCache: {self.path} is no cache of codes: {error}; make it again.") from error
        if self._codes.dtype != torch.uint16 or self._codes.ndim not in (4, 5) or digest != _digest(self._codes):
            raise ValueError(f"CodeCache: {self.path} is damaged; make it again.")
        other = [name for name, value in made._asdict().items() if written.get(name) != value]
        if other:
            raise ValueError(f"CodeCache: {self.path} was made from another {', '.join(other)}; make it again.")

    def __len__(self) -> int:
        return len(self._codes)

    def codes(self, indices: Tensor, flipped: Tensor) -> Indices:
        """Gives the codes of some images.

        Args:
            indices: `(b,)`, which images.
            flipped: `(b,)`, whether each is mirrored.

        Returns:
            `b h w`, or `b m h w` of several tables, int64, where `indices` lie.
        """
        place = indices.device
        # PyTorch 2.8 cannot index uint16: the bits are read as int16, and the sign is removed afterwards
        held = self._codes.view(torch.int16)[indices.cpu(), flipped.cpu().long()]
        return (held.long() & 0xFFFF).to(place)

    def verify(
        self, source: Source, encode: Encode, *, samples: int = 64, agreement: float = 0.999, seed: int | None = None
    ) -> float:
        """Encodes some images again.

        Args:
            source: The images.
            encode: The encoder.
            samples: How many images.
            agreement: Share of the codes that must be equal. It is below one because where two rows of the table are
                equally near, rounding on another device or with another batch size may choose the other one.
            seed: Chooses the images. None draws others each time, so that whoever wrote the file cannot know them.

        Returns:
            The share that is equal.

        Raises:
            ValueError: It is too small.
        """
        seed = secrets.randbits(31) if seed is None else seed
        chosen = slots(0, min(samples, len(self)), count=len(self), seed=seed)
        equal = total = 0
        for index, flip in zip(chosen.indices.tolist(), chosen.flipped.tolist(), strict=True):
            fresh = encode(_oriented(source, index, flip)).cpu()
            held = self.codes(torch.tensor([index]), torch.tensor([flip]))
            if fresh.shape != held.shape:
                raise ValueError(
                    f"CodeCache: {self.path} holds {tuple(held.shape[1:])} codes an image, the encoder gives "
                    f"{tuple(fresh.shape[1:])}; make it again."
                )
            equal, total = equal + int((fresh == held).sum()), total + held.numel()
        if equal < agreement * total:
            raise ValueError(
                f"CodeCache: only {equal} of {total} codes of {self.path} are those that the encoder gives now; "
                "make it again."
            )
        return equal / total


def write_codes(path: str | Path, source: Source, encode: Encode, *, made: Made, size: int, batch: int = 16) -> Path:
    """Encodes every image, as it is and mirrored, and writes the codes; the file is whole or absent.

    Every rank must call it. Each encodes its share and reads each image of it once; rank 0 writes the file. Ranks
    synchronise after each batch, so that none waits for another longer than a batch takes.

    Args:
        path: The file; an existing one is replaced in one step.
        source: The images.
        encode: The encoder.
        made: What the codes depend on.
        size: Count of codes in the table, at most 65,536.
        batch: Images encoded at once.

    Returns:
        The path.

    Raises:
        ValueError: The table has too many codes.
        RuntimeError: Another rank failed; its own error says why.
    """
    if size > 2**16:
        raise ValueError(f"write_codes: expected a table of at most 65536 codes, got {size}.")
    path = Path(path)
    codes = _gathered(_share(source, encode, batch), len(source))
    with _meeting() as failed:
        if distributed.rank() == 0:
            try:
                _write(path, codes, made)
            except OSError as error:
                failed.append(error)
    return path


def weights_sha256(module: nn.Module) -> str:
    """Gives one sha256 over the names, shapes and values of a module's state.

    Args:
        module: On any device.
    """
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _share(source: Source, encode: Encode, batch: int) -> UInt16[np.ndarray, "n 2 *places"]:
    """Gives the codes of this rank's part of the images; all parts but the last ones are equally long."""
    most = -(-len(source) // distributed.world())
    mine, parts = range(len(source))[most * distributed.rank() :][:most], []
    for start in range(0, most, batch):
        numbers = mine[start : start + batch]
        with _meeting() as failed:
            try:
                if numbers:
                    parts.append(_both_ways(source, numbers, encode))
            except Exception as error:  # whatever it is, the other ranks must not wait for this one
                failed.append(error)
    # a rank without images still knows the shape of their codes
    codes = torch.cat(parts) if parts else _both_ways(source, range(1), encode)[:0]
    return codes.numpy().astype(np.uint16)


def _both_ways(source: Source, numbers: Sequence[int], encode: Encode) -> Tensor:
    images = torch.stack([source.image(number) for number in numbers])
    return torch.stack([encode(one).cpu() for one in (images, images.flip(-1))], dim=1)


def _gathered(mine: UInt16[np.ndarray, "n 2 *places"], count: int) -> UInt16[Tensor, "count 2 *places"]:
    most = -(-count // distributed.world())
    padded = np.zeros((most, *mine.shape[1:]), np.uint16)
    padded[: len(mine)] = mine
    # as bytes, because not every backend carries 16-bit whole numbers
    parts = [part.numpy().view(np.uint16) for part in distributed.gather(torch.from_numpy(padded.view(np.uint8)))]
    return torch.from_numpy(np.concatenate(parts)[:count])


def _write(path: Path, codes: Tensor, made: Made) -> None:
    facts = {"made": made._asdict(), "sha256": _digest(codes)}
    files.make_folder(path.parent)
    files.write(path, to_bytes({"codes": codes}, {_KEY: json.dumps(facts)}), overwrite=True)


@contextmanager
def _meeting() -> Iterator[list[Exception]]:
    """Asks all ranks at the end whether one of them failed; then all of them end."""
    failed: list[Exception] = []
    yield failed
    if distributed.any_rank(bool(failed)):
        raise failed[0] if failed else RuntimeError("write_codes: another rank failed; its own error says why.")


def _oriented(source: Source, index: int, flip: bool) -> UInt8[Tensor, "1 3 H W"]:
    image = source.image(index)
    return (image.flip(-1) if flip else image)[None]


def _digest(codes: Tensor) -> str:
    return hashlib.sha256(codes.numpy().tobytes()).hexdigest()

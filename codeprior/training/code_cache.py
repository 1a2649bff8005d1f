"""Target codes of every image, computed once: what a frozen encoder says need not be asked again at every step.

Two maps an image, as it is and mirrored: at 16×16 codes 1 KiB, 72 MB for FFHQ. The file says what it was made from; at
the start of a run some images are encoded again, and a cache that disagrees is refused.
"""

import hashlib
import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from codeprior import files
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
            `b h w`, int64, where `indices` lie.
        """
        place = indices.device
        return self._codes[indices.cpu(), flipped.cpu().long()].long().to(place)

    def verify(
        self, source: Source, encode: Encode, *, samples: int = 64, agreement: float = 0.999, seed: int | None = None
    ) -> float:
        """Encodes some images again.

        Args:
            source: The images.
            encode: The encoder.
            samples: How many images.
            agreement: Share of the codes that must be equal. It is below one because a code that two rows of the table
                are equally near to may turn over when sums round differently, on another device or batch size.
            seed: Which images. None draws others each time, so that nobody who wrote the file can know them.

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
    """Encodes every image, as it is and mirrored, and writes the codes; whole or not at all.

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
    """
    if size > 2**16:
        raise ValueError(f"write_codes: expected a table of at most 65536 codes, got {size}.")
    path = Path(path)
    parts = []
    for start in range(0, len(source), batch):
        numbers = range(start, min(start + batch, len(source)))
        both = [torch.cat([_oriented(source, number, flip) for number in numbers]) for flip in (False, True)]
        parts.append(torch.stack([encode(images).cpu() for images in both], dim=1))
    codes = torch.from_numpy(torch.cat(parts).numpy().astype(np.uint16))
    facts = {"made": made._asdict(), "sha256": _digest(codes)}
    files.make_folder(path.parent)
    files.write(path, to_bytes({"codes": codes}, {_KEY: json.dumps(facts)}), overwrite=True)
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


def _oriented(source: Source, index: int, flip: bool) -> UInt8[Tensor, "1 3 H W"]:
    image = source.image(index)
    return (image.flip(-1) if flip else image)[None]


def _digest(codes: Tensor) -> str:
    return hashlib.sha256(codes.numpy().tobytes()).hexdigest()

"""What the networks see: clean faces, and the same faces degraded, both signed and of the network's size.

A network smaller than 512 px still sees the published degradations: the face is brought to `degradation_size`, degraded
there, and then resized to the network's size by area averaging. Training, tables and demonstration keep this one rule.
"""

from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from codeprior import degradations, to_signed
from codeprior.degradations import concatenate
from codeprior.shapes import Image
from codeprior.training import Batch


class Pair(NamedTuple):
    """A batch of faces before and after damage.

    Attributes:
        clean: `b 3 S S`, signed.
        degraded: `b 3 S S`, signed, on no 8-bit grid where the network is smaller than the degradation.
    """

    clean: Image
    degraded: Image


class Faces:
    """Turns batches of 8-bit faces into pairs for a network.

    Args:
        size: Side of the network's images, pixels.
        degradation: Name of a preset, or None: then `degraded` is the clean face itself.
        degradation_size: Side at which faces are degraded, pixels.
        device: Where the pairs are wanted.
    """

    def __init__(
        self, *, size: int, degradation: str | None, degradation_size: int, device: torch.device | str = "cpu"
    ):
        self.size = size
        self.degradation = None if degradation is None else degradations.preset(degradation)
        self.degradation_size = degradation_size
        self.device = device

    def clean(self, levels: Tensor) -> Image:
        """Gives 8-bit faces `b 3 H W` as the network sees them when nothing is the matter with them, signed."""
        return to_signed(resize(levels.float() / 255, self.size))

    def degraded(self, batch: Batch) -> Image:
        """Gives the damaged faces of a batch, signed; each damage is drawn from the sample's own key."""
        if self.degradation is None:
            return self.clean(batch.clean)
        large = resize(batch.clean.float() / 255, self.degradation_size)
        side = (self.degradation_size, self.degradation_size)
        drawn = [self.degradation.sample(side, torch.Generator().manual_seed(key)) for key in batch.keys.tolist()]
        # each sample's values come from its own key; then the whole batch is degraded at once, where it lies
        damaged = cast(Tensor, self.degradation.apply(large, concatenate(drawn)))
        return to_signed(resize(damaged, self.size))

    def on_workers(self, batch: Batch) -> Batch:
        """Gives a batch with its damaged faces, computed where it lies; for `Stream(prepare=…)`."""
        return batch if self.degradation is None else batch._replace(degraded=self.degraded(batch))

    def __call__(self, batch: Batch) -> Pair:
        """Gives the pairs of a batch; faces that were damaged as they were read are taken as they are."""
        batch = batch.to(self.device)
        clean = self.clean(batch.clean)
        if self.degradation is None:
            return Pair(clean, clean)
        return Pair(clean, self.degraded(batch) if batch.degraded is None else batch.degraded)


def resize(image: Image, size: int) -> Image:
    """Gives unit images at another size: area averaging to shrink, bicubic to enlarge; clamped to [0, 1].

    Args:
        image: `b 3 H W`, unit.
        size: New height and width, pixels.
    """
    if image.shape[-2:] == (size, size):
        return image
    if size < min(image.shape[-2:]):
        return F.interpolate(image, size=(size, size), mode="area")
    return F.interpolate(image, size=(size, size), mode="bicubic", align_corners=False).clamp(0, 1)


def windows(pair: Pair, side: int, keys: Tensor) -> Pair:
    """Gives the same random window of both images of each pair.

    Args:
        pair: Faces.
        side: Side of the windows, pixels.
        keys: `(b,)` seeds, one a sample; the place of the window depends on nothing else.
    """
    height, width = pair.clean.shape[-2:]
    # the low bits choose the row, the next ones the column
    tops, lefts = keys % (height - side + 1), (keys // 8191) % (width - side + 1)
    places = list(zip(tops.tolist(), lefts.tolist(), strict=True))

    def cut(images: Tensor) -> Tensor:
        return torch.stack(
            [one[:, top : top + side, left : left + side] for one, (top, left) in zip(images, places, strict=True)]
        )

    clean = cut(pair.clean)
    return Pair(clean, clean if pair.degraded is pair.clean else cut(pair.degraded))

"""What the networks see: clean faces, and the same faces degraded, both signed and of the network's size.

A network smaller than 512 px still sees the published degradations: the face is brought to `degradation_size`, degraded
there, and then resized to the network's size by area averaging. Training, tables and demonstration keep this one rule.
"""

from bisect import bisect
from collections.abc import Sequence
from itertools import accumulate
from typing import Literal, NamedTuple, Self, cast

import torch
from torch import Tensor

from codeprior import degradations, distributed
from codeprior.degradations import Op, concatenate
from codeprior.images import from_levels, resize, to_signed
from codeprior.shapes import Image
from codeprior.stages.settings import Degradation, StageSettings, VQGANSettings
from codeprior.training import Batch

Measured = Literal["restored", "degraded", "clean"]
"""What of a stage is measured on held-out faces: restored ones, or reconstructions of degraded or of clean ones."""


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
        degradation: Name of a preset, or the share of samples of each of several; None: then `degraded` is the clean
            face itself, as it is for the samples of the name `clean`.
        degradation_size: Side at which faces are degraded, pixels.
        device: Where the pairs are wanted.
    """

    def __init__(
        self, *, size: int, degradation: Degradation | None, degradation_size: int, device: torch.device | str = "cpu"
    ):
        self.size = size
        shares = {degradation: 1.0} if isinstance(degradation, str) else dict(degradation or {})
        self.presets = {name: None if name == "clean" else degradations.preset(name) for name in shares}
        self.bounds = list(accumulate(share / sum(shares.values()) for share in shares.values()))
        self.degradation_size = degradation_size
        self.device = device

    @classmethod
    def of(cls, settings: StageSettings, *, size: int, device: torch.device | str = "cpu") -> Self:
        """Gives the pairs that a stage's settings ask for.

        Args:
            settings: With `degradation` and `degradation_size`.
            size: Side of the network's images, pixels.
            device: Where the pairs are wanted.
        """
        degradation, large = settings.degradation, settings.degradation_size
        return cls(size=size, degradation=degradation, degradation_size=large, device=device)

    def clean(self, levels: Tensor) -> Image:
        """Gives 8-bit faces `b 3 H W` as the network sees them when nothing is the matter with them, signed."""
        return to_signed(resize(from_levels(levels), self.size))

    def degraded(self, batch: Batch, clean: Image | None = None) -> Image:
        """Gives the damaged faces of a batch, signed; each damage is drawn from the sample's own key.

        Args:
            batch: 8-bit faces and their keys.
            clean: What `clean` gives for them, where it is known.
        """
        chosen = self._by_preset(batch.keys.tolist()) if self.presets else {}
        damaging = [name for name in chosen if self.presets[name] is not None]
        if damaging and len(chosen) == 1:
            return self._seen(damaging[0], batch.clean, batch.keys.tolist())
        clean = self.clean(batch.clean) if clean is None else clean
        if not damaging:
            return clean
        answer = clean.clone()
        for name in damaging:
            here = _sent(torch.tensor(chosen[name]), answer.device)
            damaged = self._seen(name, batch.clean.index_select(0, here), batch.keys[chosen[name]].tolist())
            answer.index_copy_(0, here, damaged)
        return answer

    def on_workers(self, batch: Batch) -> Batch:
        """Gives a batch with its damaged faces, computed where it lies; for `Stream(prepare=…)`."""
        return batch if not self.presets else batch._replace(degraded=self.degraded(batch))

    def __call__(self, batch: Batch) -> Pair:
        """Gives the pairs of a batch; faces that were damaged as they were read are taken as they are."""
        batch = batch.to(self.device)
        clean = self.clean(batch.clean)
        if not self.presets:
            return Pair(clean, clean)
        return Pair(clean, self.degraded(batch, clean) if batch.degraded is None else batch.degraded)

    def _by_preset(self, keys: Sequence[int]) -> dict[str, list[int]]:
        """Gives which samples get which damage; each sample's key alone decides."""
        places: dict[str, list[int]] = {}
        names = list(self.presets)
        for place, key in enumerate(keys):
            # other bits than those that begin a generator or place a window
            draw = ((key * 0x9E3779B97F4A7C15) % 2**64 >> 11) / 2**53
            number = min(bisect(self.bounds, draw), len(names) - 1)
            places.setdefault(names[number], []).append(place)
        return places

    def _seen(self, name: str, levels: Tensor, keys: Sequence[int]) -> Image:
        preset = cast(Op, self.presets[name])
        large = resize(from_levels(levels), self.degradation_size)
        side = (self.degradation_size, self.degradation_size)
        drawn = [preset.sample(side, torch.Generator().manual_seed(key)) for key in keys]
        # each sample's values come from its own key; then all are degraded at once, where they lie
        damaged = cast(Tensor, preset.apply(large, concatenate(drawn)))
        return to_signed(resize(damaged, self.size))


def _sent(values: Tensor, device: torch.device) -> Tensor:
    """Gives host values on a device, without waiting for it."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)


def windows(pair: Pair, side: int, keys: Tensor) -> Pair:
    """Gives the same random window of both images of each pair.

    Args:
        pair: Faces.
        side: Side of the windows, pixels.
        keys: `(b,)` seeds, one per sample; the place of the window depends on nothing else.
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


def training_view(settings: VQGANSettings, pair: Pair, keys: Tensor, step: int) -> Pair:
    """Gives what a step trains on: windows of the pair while the settings ask for them, then whole images.

    Args:
        settings: With `crop`, `crop_until` and `whole_batch`.
        pair: Whole images.
        keys: `(b,)` seeds, one per sample.
        step: Number of the update.
    """
    if settings.crop is not None and step < settings.crop_until * settings.steps:
        return windows(pair, settings.crop, keys)
    if settings.whole_batch is None:
        return pair
    count = max(1, settings.whole_batch // (settings.accumulate * distributed.world()))
    return Pair(*(images[:count] for images in pair))

"""A stage small enough to be trained a hundred times in a test, and the images for it."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image as Pillow
from torch import nn

from codeprior import to_signed
from codeprior.training import Batch, ImageFolder, Stream


class Toy:
    """Everything that a resume can get wrong: dropout, running statistics, momentum, two networks, keyed noise."""

    def __init__(self, seed: int = 0):
        torch.manual_seed(seed)
        self.net = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.1), nn.Conv2d(4, 3, 3, padding=1)
        )
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-2, betas=(0.5, 0.9))

    @property
    def saved(self):
        return {"net": self.net, "optimizer": self.optimizer}

    def update(self, batch: Batch, step: int):
        clean = to_signed(batch.clean.float() / 255)
        noise = torch.stack([_noise(int(key), clean[0].shape) for key in batch.keys])
        loss = (self.net(clean + 0.1 * noise) - clean).abs().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"l1": loss.detach()}

    def preview(self, batch: Batch):
        clean = batch.clean.float() / 255
        return {"input": clean, "truth": clean.flip(-1)}


def digest(module: nn.Module) -> str:
    return hashlib.sha256(b"".join(value.numpy().tobytes() for value in module.state_dict().values())).hexdigest()


def write_faces(folder: Path, count: int = 7, size: int = 8) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for number in range(count):
        Pillow.fromarray(random.integers(0, 256, (size, size, 3), np.uint8)).save(folder / f"{number:02d}.png")
    return folder


def stream(folder: Path, **options) -> Stream:
    return Stream(ImageFolder(folder, size=8), batch=4, seed=3, **options)


def _noise(key: int, shape) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(key))

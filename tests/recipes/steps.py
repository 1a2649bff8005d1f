"""What the tests of several families' stages share: a run broken off and resumed, and a small perceptual loss."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from codeprior.losses import PerceptualLoss
from codeprior.training import Saving, train
from tests.torture.stages import digest, stream

RUN = {"saving": Saving(every=3), "log_every": 1, "preview_every": 0, "progress": False}


def assert_a_resumed_run_is_the_same(build: Callable[..., Any], folder: Path, *, steps: int = 7) -> None:
    """Runs a stage whole, and again broken off after three steps and resumed by one with other weights.

    Args:
        build: Gives the stage; takes `seed`, of its weights.
        folder: Empty.
        steps: Of the whole run.
    """
    data = stream(folder / "faces")
    whole, first, second = build(), build(), build(seed=9)
    train(whole, data, folder=folder / "whole", steps=steps, **RUN)
    train(first, data, folder=folder / "parts", steps=3, **RUN)
    train(second, data, folder=folder / "parts", steps=steps, **RUN)
    assert digest(second) == digest(whole)


class Maps(torch.nn.Module):
    """A feature network small enough for here: two fixed random convolutions."""

    channels = (4, 6)

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        self.first, self.second = torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 6, 3, stride=2)
        for value in self.parameters():
            torch.nn.init.normal_(value, generator=generator)

    def forward(self, image):
        first = self.first(image)
        return [first, self.second(first.relu())]


def perceptual() -> PerceptualLoss:
    """Gives the perceptual loss on `Maps`, with heads that are neither zero nor one."""
    loss = PerceptualLoss(Maps())
    for name, value in loss.state_dict().items():
        if name.startswith("lin"):
            value.fill_(0.1)
    return loss

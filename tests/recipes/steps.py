"""What the tests of several families' stages share: a resumed run, the term of the hatch, a small perceptual loss."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
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


def assert_the_hatch_counts(build: Callable[[], Any], folder: Path, *, terms: tuple[str, ...] = ("hatch",)) -> None:
    """Makes the first step of a stage with the terms of the hatch, and of one that has the same weights without them.

    Args:
        build: Gives the stage, with weights of the terms.
        folder: Empty.
        terms: Their names.
    """
    batch = stream(folder / "faces").at(0)
    with_them, without = build(), build()
    weights = dict(with_them.recipe.weights)
    others = {name: weight for name, weight in weights.items() if name not in terms}
    assert set(weights) - set(others) == set(terms)
    without.recipe = replace(without.recipe, weights=others)
    found, plain = with_them.update(batch, 0), without.update(batch, 0)
    assert set(found) - set(plain) == set(terms)
    added = sum(weights[name] * float(found[name]) for name in terms)
    assert added > 0 and float(found["total"]) == pytest.approx(float(plain["total"]) + added, rel=1e-5)


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

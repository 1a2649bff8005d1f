"""Exponential averages of weights: the result of training is a mean over many steps, not the last step."""

import copy
from collections.abc import Mapping
from typing import Any, Generic, Self, TypeVar

import torch
from torch import nn

Trained = TypeVar("Trained", bound=nn.Module)


class WeightAverage(Generic[Trained]):
    """A copy of a module whose weights follow the module's by an exponential average.

    average ← d · average + (1 − d) · weight, with `d = min(decay, (1 + t) / (10 + t))` after `t` updates, so that the
    random first weights soon have no effect. Floating buffers (moving-average codes, running statistics) are averaged
    too; whole numbers are copied.

    Args:
        module: What is trained; the copy is made of it as it is now.
        decay: Share of the average that an update keeps, in [0, 1). None for no average: `module` is then what is
            trained itself, updates do nothing, and there is nothing to save.

    Attributes:
        module: What training hands on: the copy, in evaluation mode, without gradients.

    Raises:
        ValueError: `decay` is out of range.

    Note:
        It has `state_dict` and `load_state_dict`, so a stage adds `parts` to `saved` and a resumed run goes on with it.

    Source: Polyak & Juditsky 1992; the warm-up is that of TensorFlow's `ExponentialMovingAverage`.
    """

    def __init__(self, module: Trained, *, decay: float | None = 0.999):
        if decay is not None and not 0 <= decay < 1:
            raise ValueError(f"WeightAverage: expected decay in [0, 1), or None for no average, got {decay}.")
        self.decay, self.updates = decay, 0
        self.module = module if decay is None else copy.deepcopy(module).requires_grad_(False).eval()
        self._source = module

    @property
    def parts(self) -> dict[str, Self]:
        """What a checkpoint holds of it: itself as `average`, or nothing where there is no average."""
        return {} if self.decay is None else {"average": self}

    @torch.no_grad()
    def update(self) -> None:
        """Adds the module's present weights to the average."""
        if self.decay is None:
            return
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        mine, theirs = self._tensors(self.module), self._tensors(self._source)
        torch._foreach_lerp_([one for one in mine if one.is_floating_point()],
                             [one for one in theirs if one.is_floating_point()], 1 - decay)  # fmt: skip
        for one, other in zip(mine, theirs, strict=True):
            if not one.is_floating_point():
                one.copy_(other)
        self.updates += 1

    @torch.no_grad()
    def copy(self, name: str) -> None:
        """Copies a part of the module without averaging: for parts whose weights were just replaced.

        Args:
            name: Of a submodule, such as `codebook`.
        """
        if self.decay is None:
            return
        self.module.get_submodule(name).load_state_dict(self._source.get_submodule(name).state_dict())

    def state_dict(self) -> dict[str, Any]:
        """Gives the averaged weights and the count of updates."""
        return {"module": self.module.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes what `state_dict` gave."""
        self.module.load_state_dict(state["module"])
        self.updates = int(state["updates"])

    @staticmethod
    def _tensors(module: nn.Module) -> list[torch.Tensor]:
        return [*module.parameters(), *module.buffers()]

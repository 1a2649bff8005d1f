"""What a family writes for its training: a stage, with the modules that it saves, an update and a preview."""

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor, nn
from torch.optim import Optimizer

from codeprior.shapes import Image
from codeprior.training.data import Batch


@runtime_checkable
class Stage(Protocol):
    """One stage of training; the loop owns the order of steps, the stage owns what a step does.

    Note:
        Everything that changes during training must be reachable from `saved`, or be derived from the step or from
        `batch.keys`; then a resumed run ends with the same bits as one that was never interrupted. The states of the
        global generators of torch, numpy and Python are saved by the loop.
    """

    @property
    def saved(self) -> Mapping[str, nn.Module | Optimizer]:
        """What a checkpoint holds: modules, optimisers, or anything with `state_dict` and `load_state_dict`."""
        ...

    def update(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        """Does forward, backward and optimiser steps, and gives detached scalars to log.

        Args:
            batch: Clean images, uint8, with the seed of everything random about each.
            step: Number of the update, from 0.

        Returns:
            Scalars by name. The name `skipped`, where present, counts updates left out for non-finite gradients.
        """
        ...

    def preview(self, batch: Batch) -> Mapping[str, Image]:
        """Gives pictures to look at, by name, in the order of the columns; unit, [0, 1].

        It must not change any state. The stage sets evaluation mode itself; the loop restores the random generators.
        """
        ...
